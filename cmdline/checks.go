package cmdline

import (
	"errors"
	"runtime"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner/internal/run"
)

const checksDescription = `With --notify, COMMAND speaks the protocol of sd_notify(3) to this process: the endpoint
and --meta are advertised from READY=1 until STOPPING=1, and STATUS=TEXT appears as the
fact "status". With --ready-cmd, they are advertised when LINE has succeeded once. An
owner whose COMMAND is not healthy for --health-timeout loses the lease, so that a
standby takes over: see --health-cmd. With --notify, --health-timeout demands WATCHDOG=1,
unless --health-cmd is given. A COMMAND that ends need not be ready or healthy: from
STOPPING=1 on, or when it was asked to end, by TERM, INT or QUIT to this process or for
another process that wants the lease, it may take any time for that.
Only processes of COMMAND are listened to, and of this process's user: one that has
changed its user cannot reach $NOTIFY_SOCKET, for which there is --ready-cmd. One that is
about to end has to wait for its message to be read, as systemd-notify(1) does.

LINE is run by $SHELL (or /bin/sh), as COMMAND would be, for half of --health-timeout at
most. It succeeds with exit code 0, and all that it has started is ended with it.

With --restart, a COMMAND that fails is started again under the same epoch, when no
process of it is left: after 0.2 s, then twice as long each time, up to 30 s. It does
not count as a failure that COMMAND ends with exit code 0, or after TERM, INT or QUIT was
sent to this process. HUP ends the pause only where this process has a terminal.

Started by systemd with Type=notify, this process sends READY=1 as soon as it is a
standby, or else when COMMAND has been started and is ready; STATUS=, STOPPING=1, and
WATCHDOG=1 in half of WatchdogSec=. COMMAND does not see this NOTIFY_SOCKET.`

// checksCategory is the heading of these flags in the help.
const checksCategory = "Readiness, health and restarts"

// checkFlags are about COMMAND's state.
func checkFlags() []cli.Flag {
	const c = checksCategory
	return []cli.Flag{
		&cli.BoolFlag{Name: "notify", Category: c, Usage: "advertise when COMMAND sends READY=1 to $NOTIFY_SOCKET (Linux)", HideDefault: true},
		&cli.StringFlag{Name: "ready-cmd", Category: c, Usage: "advertise when `LINE` succeeds; it is tried until then"},
		&DurationFlag{Name: "ready-timeout", Category: c, Usage: "end COMMAND if it is not ready after `DURATION`", HideDefault: true},
		&cli.StringFlag{Name: "health-cmd", Category: c, Usage: "COMMAND is healthy when `LINE` succeeds"},
		&DurationFlag{Name: "health-interval", Category: c, Usage: "`DURATION` between two checks", DefaultText: "a third of the ttl"},
		&DurationFlag{Name: "health-timeout", Category: c, Usage: "lose the lease if COMMAND is not healthy for `DURATION`", DefaultText: "the ttl, or three intervals"},
		&cli.IntFlag{Name: "restart", Category: c, Usage: "keep the lease and start COMMAND again after a failure, up to `N` times in a row", HideDefault: true},
	}
}

// leastTimeout is as short as a check of the health makes sense.
const leastTimeout = 50 * time.Millisecond

// checksMistake says what is wrong with these flags.
func checksMistake(c *cli.Command) error {
	notify, ready, health := c.Bool("notify"), c.IsSet("ready-cmd"), c.IsSet("health-cmd")
	switch {
	case notify && runtime.GOOS != "linux":
		return usage(c, "--notify is supported on Linux only: elsewhere the kernel does not say who has sent a message; use --ready-cmd and --health-cmd")
	case (ready || health) && runtime.GOOS == "windows":
		return usage(c, "%w", errNoProbe)
	case notify && ready:
		return usage(c, "--notify and --ready-cmd exclude each other")
	case ready && c.String("ready-cmd") == "":
		return usage(c, "--ready-cmd is empty")
	case health && c.String("health-cmd") == "":
		return usage(c, "--health-cmd is empty")
	case c.IsSet("ready-timeout") && !notify && !ready:
		return usage(c, "--ready-timeout needs --notify or --ready-cmd")
	case c.IsSet("ready-timeout") && c.Duration("ready-timeout") == 0:
		return usage(c, "--ready-timeout is 0; without it, COMMAND may take any time")
	case c.IsSet("health-interval") && !ready && !health:
		return usage(c, "--health-interval needs --health-cmd or --ready-cmd")
	case c.IsSet("health-interval") && c.Duration("health-interval") == 0:
		return usage(c, "--health-interval is 0")
	case c.IsSet("health-timeout") && !notify && !health:
		return usage(c, "--health-timeout needs --health-cmd or --notify")
	case c.Int("restart") < 0:
		return usage(c, "--restart %d is negative", c.Int("restart"))
	}
	return timesMistake(c, checksOf(c), timeoutOf(c))
}

// timesMistake says which times do not fit each other.
func timesMistake(c *cli.Command, k run.Checks, timeout time.Duration) error {
	switch {
	case k.Health == nil && !k.Watchdog:
		return nil
	case timeout < leastTimeout:
		return usage(c, "--health-timeout is %v; it must be %v at least", timeout, leastTimeout)
	case k.Health != nil && timeout <= k.Interval:
		return usage(c, "--health-timeout is %v; it must be longer than --health-interval, %v", timeout, k.Interval)
	}
	return nil
}

var errNoProbe = errors.New("--ready-cmd and --health-cmd are not supported on Windows")

func checksOf(c *cli.Command) run.Checks {
	k := run.Checks{
		Notify:       c.Bool("notify"),
		Watchdog:     c.Bool("notify") && c.IsSet("health-timeout") && !c.IsSet("health-cmd"),
		Ready:        shellLine(c, "ready-cmd"),
		Health:       shellLine(c, "health-cmd"),
		Interval:     c.Duration("ttl") / 3,
		Limit:        timeoutOf(c) / 2,
		ReadyTimeout: c.Duration("ready-timeout"),
	}
	if c.IsSet("health-interval") {
		k.Interval = c.Duration("health-interval")
	}
	return k
}

// timeoutOf is how long COMMAND may be without a sign of health.
func timeoutOf(c *cli.Command) time.Duration {
	if c.IsSet("health-timeout") {
		return c.Duration("health-timeout")
	}
	return max(c.Duration("ttl"), 3*c.Duration("health-interval"))
}

// setChecks fills in the options that these flags are about.
func setChecks(c *cli.Command, o *run.Options) {
	o.Checks, o.Restart = checksOf(c), c.Int("restart")
	if o.Checks.Health != nil || o.Checks.Watchdog {
		o.Config.HealthTimeout = timeoutOf(c)
	}
}
