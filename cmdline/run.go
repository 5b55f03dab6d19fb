package cmdline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/run"
)

// commandArg marks the subcommand whose arguments are another command.
const commandArg = "[--] COMMAND [ARG…]"

const runDescription = `Waits until it owns the lease, runs COMMAND while it does, and releases the lease.
COMMAND finds OWNER_LEASE, OWNER_INSTANCE_ID and OWNER_EPOCH in its environment. The
epoch grows with every change of owner: pass it on with every effect, and have the
receiver refuse a lower one than it has seen.

Signals are passed on to COMMAND, and to what it has started in its process group, as a
terminal does with its own; those of the terminal reach them directly. Processes that
COMMAND leaves behind are ended before the lease is released: by TERM, and KILL after the
grace. When the lease is lost, all are ended before the lease expires. When this process
is killed, all of COMMAND is killed as well. Processes that cannot be ended, as another
user's, are named, and waited for.

On Linux, all processes that COMMAND has started are followed, also into a new session
or group (setsid, timeout), and as daemons: none outlives the lease. With flock(1),
such a process keeps the lock. On other Unix systems, COMMAND runs in a new process
group, and a process that leaves it is not followed.

When another process asks for the lease ("run --replace", "handover"), COMMAND gets TERM
in this way. The lease is kept until COMMAND has ended, however long that takes; then
this process ends with COMMAND's code, 0 if TERM has ended it.

Under systemd, use KillMode=mixed: with the default, COMMAND gets each TERM twice.

A job stopped with Ctrl-Z does not renew its lease: stopped for longer than the
ttl, it has lost it, and is killed. In a container that is paused for longer, COMMAND
can take a last step when it is resumed.

` + checksDescription

const runCodes = `  COMMAND's   or 128+n if signal n has ended it (or, before, the wait for the lease):
              on Unix, this process then ends by the same signal
  120         COMMAND was not ready within --ready-timeout
  121         the lease was lost, and a process of COMMAND could not be ended in time
  122         the lease was lost while COMMAND ran
  123         conflict: another process owns the lease, and -n or -w 0 is given
  124         timeout: another process owned the lease for the whole of -w
  125         this program itself failed: wrong usage, or the lease cannot be used
  126         COMMAND cannot be run
  127         COMMAND is not found`

// Run is the subcommand that runs a command while it owns a lease.
func Run(p *Backend) *cli.Command {
	return &cli.Command{
		Name:            "run",
		Usage:           "run a command while owning a lease",
		ArgsUsage:       p.Usage + " " + commandArg,
		Description:     p.describe(runDescription, runCodes),
		HideHelpCommand: true, // or COMMAND could not be named "help"
		// A value may have commas.
		DisableSliceFlagSeparator: true,
		Flags: slices.Concat(p.Flags(), p.modeFlags(), p.evictFlags(), flockFlags(), []cli.Flag{
			&DurationFlag{Name: "ttl", Value: 10 * time.Second, Usage: "the lease outlives its last renewal by `DURATION`"},
			&cli.BoolFlag{Name: "nonblock", Aliases: []string{"n", "nb"}, Usage: "do not wait if another process owns the lease", HideDefault: true},
			&DurationFlag{Name: "wait", Aliases: []string{"w", "timeout"}, Usage: "wait for `DURATION` at most; 0 is --nonblock", HideDefault: true},
			&cli.BoolFlag{Name: "replace", Usage: "ask the present owner to step down for this process", HideDefault: true},
			&cli.IntFlag{Name: "conflict-exit-code", Value: usualCode, Aliases: []string{"E"}, Usage: "exit with `CODE` after a conflict or timeout", HideDefault: true},
			&cli.StringFlag{Name: "endpoint", Usage: "advertise `ADDR`, where COMMAND can be reached"},
			&cli.StringMapFlag{Name: "meta", Usage: "advertise the fact `KEY=VALUE`"},
			&DurationFlag{Name: "grace", Usage: "`DURATION` from TERM to KILL", DefaultText: "a fifth of the ttl"},
			&cli.StringFlag{Name: "command", Aliases: []string{"c"}, Usage: "in place of COMMAND, have $SHELL (or /bin/sh) run `LINE`"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing for a conflict or timeout", HideDefault: true},
			&cli.BoolFlag{Name: "verbose", Usage: "report which owner it waits for, and when it owns the lease", HideDefault: true},
		}, checkFlags()),
		UseShortOptionHandling: true, // as flock(1) takes -nE 1
		Action:                 func(_ context.Context, c *cli.Command) error { return runAction(c, p) },
	}
}

func runAction(c *cli.Command, p *Backend) error {
	if err := runMistake(c, p); err != nil {
		return err
	}
	mode, err := fileMode(c)
	if err != nil {
		return usage(c, "%w", err)
	}
	l, err := p.opened(c)
	if err != nil {
		return err
	}
	defer l.close()
	l.Config.FileMode = mode
	code, err := run.Run(runOptions(c, l))
	return quietly(c, runExit(l.Name, code, c.Int("conflict-exit-code"), err), err)
}

// quietly leaves out what --quiet does not want printed: that the lease was held.
func quietly(c *cli.Command, ended, err error) error {
	var (
		e    *exit
		held *run.HeldError
	)
	if c.Bool("quiet") && errors.As(err, &held) && errors.As(ended, &e) {
		return &exit{code: e.code}
	}
	return ended
}

func runMistake(c *cli.Command, p *Backend) error {
	switch code := c.Int("conflict-exit-code"); {
	case c.String(p.Flag) == "":
		return p.missing(c)
	case c.Bool("quiet") && c.Bool("verbose"):
		return usage(c, "--quiet and --verbose exclude each other")
	case c.Bool("replace") && (c.Bool("nonblock") || c.IsSet("wait") && c.Duration("wait") == 0):
		return usage(c, "--replace waits until the present owner has stepped down: it cannot be used with --nonblock or --wait 0")
	case c.Bool("nonblock") && c.IsSet("wait"):
		return usage(c, "--nonblock and --wait exclude each other")
	case c.IsSet("conflict-exit-code") && (code < 0 || code > 255):
		return usage(c, "--conflict-exit-code %d is not between 0 and 255", code)
	}
	return cmp.Or(flockMistake(c), commandMistake(c), checksMistake(c))
}

func runOptions(c *cli.Command, l *Lease) run.Options {
	o := run.Options{
		Lease: l.Name, Config: l.Config, CountsSuspend: l.CountsSuspend,
		Command:  commandOf(c),
		Warn:     func(err error) { complain(c.Root().ErrWriter, c.Root().Name, err) },
		Nonblock: c.Bool("nonblock") || c.IsSet("wait") && c.Duration("wait") == 0,
		Wait:     c.Duration("wait"),
		Replace:  c.Bool("replace"),
		Grace:    run.DefaultGrace(c.Duration("ttl")),
	}
	o.Config.TTL = c.Duration("ttl")
	o.Config.Endpoint = c.String("endpoint")
	o.Config.Meta = c.StringMap("meta")
	evictHung(c, &o.Config)
	if c.IsSet("grace") {
		o.Grace = c.Duration("grace")
	}
	setChecks(c, &o)
	tellWait(c, l, &o)
	return o
}

// usualCode means the exit codes without -E, as 0 is one that -E can choose.
const usualCode = -1

// runExit is the exit of run: COMMAND's code where there is no error.
func runExit(lease string, code, conflictCode int, err error) error {
	var (
		held     *run.HeldError
		killed   *run.SignalError
		start    *run.StartError
		lost     *owner.LostError
		outlived *run.OutlivedError
		late     *run.NotReadyError
		gaveUp   *run.GaveUpError
		released *run.ReleaseError
	)
	switch {
	case err == nil && code == 0:
		return nil
	case err == nil:
		return &exit{code: code}
	case errors.As(err, &gaveUp):
		return gaveUpExit(lease, code, conflictCode, gaveUp)
	case errors.As(err, &held):
		usual := codeConflict
		if held.Waited > 0 {
			usual = codeTimeout
		}
		if conflictCode != usualCode {
			usual = conflictCode
		}
		return &exit{usual, errors.New(refusal(lease, held))}
	case errors.As(err, &killed):
		return &exit{signaled(killed.Signal), killed}
	case errors.As(err, &start):
		return &exit{startCode(start.Err), start}
	case errors.As(err, &outlived):
		return &exit{codeOutlived, err}
	case errors.As(err, &lost):
		return &exit{codeLost, err}
	case errors.As(err, &late):
		return &exit{codeNotReady, err}
	case errors.As(err, &released):
		return &exit{code, err}
	}
	return fail(err)
}

// gaveUpExit exits as the last failure alone would, and says that it was the last of many.
func gaveUpExit(lease string, code, conflictCode int, err *run.GaveUpError) error {
	var last *exit
	if errors.As(runExit(lease, code, conflictCode, err.Err), &last) {
		code = last.code
	}
	return &exit{code, err}
}

// startCode distinguishes, like a shell, a command that was not found from one that
// cannot be run.
func startCode(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return codeNotFound
	}
	return codeCannotRun
}

// refusal names who owns the lease, as far as it is known.
func refusal(lease string, e *run.HeldError) string {
	var b strings.Builder
	if e.Waited > 0 {
		fmt.Fprintf(&b, "gave up after %v: ", e.Waited)
	}
	switch {
	case e.Err != nil:
		b.WriteString(plain(e.Err))
	case e.Holder.InstanceID == "":
		fmt.Fprintf(&b, "%s does not answer", lease)
	default:
		fmt.Fprintf(&b, "%s is owned by %s", lease, identity(e.Holder, time.Now()))
	}
	return b.String()
}

// identity names an owner, and since when it owns.
func identity(r owner.Record, now time.Time) string {
	if nameless(r) {
		return name(r)
	}
	return name(r) + " since " + since(r.AcquiredAt, now)
}

// name names an owner.
func name(r owner.Record) string {
	if nameless(r) {
		return fmt.Sprintf("instance %s, whose record is missing", r.InstanceID)
	}
	return fmt.Sprintf("pid %d on %s", r.PID, r.Host)
}

// nameless reports whether a live owner's record was removed.
func nameless(r owner.Record) bool { return r.Host == "" || r.AcquiredAt.IsZero() }
