package cmdline

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/start"
)

const ensureDescription = `Prints the owner of the lease as status does, once it is ready. If no instance owns the
lease, COMMAND is started, which must acquire the lease and advertise an endpoint: a
server that uses the library, or this program's own run with --endpoint.
However many of these commands run at once, they start one process.

COMMAND gets its own session, and nothing of this process: its output is appended to the
file of --log, or discarded. It outlives this command, and is not ended with it. (Within
"owner run" on Linux, it is: it belongs to that COMMAND.) It finds OWNER_LEASE in its
environment.

If COMMAND ends without status 0 and the lease is not owned, the end of its output is
printed. If it does not own in time, or writes more than 16 MiB to the log before, it
and its process group are ended. If it owns and is not ready in time, it is left running:
it may still be loading.`

const ensureCodes = `  0           the lease has an owner, which is ready
  3           COMMAND has ended, and the lease is not owned
  124         timeout: no owner was ready in time
  125         this program itself failed: wrong usage, or the lease cannot be read
  126         COMMAND cannot be run
  127         COMMAND is not found
  128+n       signal n has ended the wait; COMMAND is left running`

// Ensure is the subcommand that starts an owner on demand.
func Ensure(p *Backend) *cli.Command {
	return &cli.Command{
		Name:            "ensure",
		Usage:           "show the owner of a lease, and start one if there is none",
		ArgsUsage:       ensureUsage(p) + " " + commandArg,
		Description:     p.describe(ensureDescription, ensureCodes),
		HideHelpCommand: true,
		Flags: append(p.Flags(), jsonFlag(),
			&DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "give a start `DURATION`, until its owner is ready"},
			&cli.StringFlag{Name: "log", Usage: "append the output of COMMAND to `FILE`; from 1 MiB on, it is first renamed to FILE.1"},
			&cli.StringFlag{Name: "lock", Usage: "take turns with others that start an owner by `FILE`, on this machine" + lockDefault(p)},
			&cli.BoolFlag{Name: "no-endpoint", Usage: "an owner is ready without an endpoint", HideDefault: true},
		),
		Action: func(ctx context.Context, c *cli.Command) error { return ensureAction(ctx, c, p) },
	}
}

// A lease that is not a file has no place for the lock beside it.
func ensureUsage(p *Backend) string {
	if p.HasModes {
		return p.Usage
	}
	return p.Usage + " --lock FILE"
}

func lockDefault(p *Backend) string {
	if p.HasModes {
		return " (default: beside the lease)"
	}
	return ""
}

func ensureAction(ctx context.Context, c *cli.Command, p *Backend) error {
	if err := ensureMistake(c, p); err != nil {
		return err
	}
	l, err := p.opened(c)
	if err != nil {
		return err
	}
	defer l.close()
	store := l.Config.Store
	if store == nil {
		if store, err = owner.FileStore(l.Name); err != nil {
			return fail(err)
		}
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	args := c.Args().Slice()
	rec, err := start.Ensure(ctx, store, start.Command{
		Path: args[0], Args: args[1:], Env: ensureEnv(l.Name), Log: c.String("log"), Lock: c.String("lock"),
		Timeout: c.Duration("timeout"), NoEndpoint: c.Bool("no-endpoint"),
	})
	if err != nil {
		return ensureExit(ctx, err)
	}
	r := l.reportOf(rec)
	show := r.text
	if c.Bool("json") {
		show = r.json
	}
	if err := show(c.Root().Writer, time.Now()); err != nil {
		return fail(err)
	}
	return nil
}

func ensureMistake(c *cli.Command, p *Backend) error {
	switch {
	case c.String(p.Flag) == "":
		return p.missing(c)
	case c.Args().First() == "":
		return usage(c, "COMMAND is missing")
	case c.Duration("timeout") == 0:
		return usage(c, "--timeout 0 leaves no time for a start; to read who owns only, use status")
	case !p.HasModes && c.String("lock") == "":
		return usage(c, "--lock is missing: this lease is not a file that the lock could be put beside")
	case c.IsSet("lock") && c.String("lock") == "", c.IsSet("log") && c.String("log") == "":
		return usage(c, "--lock and --log need the path of a file")
	}
	return nil
}

// ensureEnv is COMMAND's environment. If this command runs under a lease itself, what is
// said of that is not for the process that it starts, which outlives it.
func ensureEnv(lease string) []string {
	var env []string
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "OWNER_LEASE", "OWNER_INSTANCE_ID", "OWNER_EPOCH", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC":
		default:
			env = append(env, v)
		}
	}
	return append(env, "OWNER_LEASE="+lease)
}

func ensureExit(ctx context.Context, err error) error {
	var (
		signaled *exit
		failed   *start.StartError
	)
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &signaled) {
		return signaled
	}
	code := codeFailed
	switch {
	case errors.Is(err, start.ErrNotReady):
		code = codeTimeout
	case errors.As(err, &failed) && failed.Started:
		code = codeNotOwned
	case errors.As(err, &failed):
		code = startCode(failed.Err)
	}
	return &exit{code, errors.New(strings.TrimPrefix(err.Error(), "start: "))}
}

// reportOf is the report of an owner that was ready a moment ago.
func (l *Lease) reportOf(rec owner.Record) *report {
	r, err := look(l.Name, l.probe)
	if err != nil || r.Record.InstanceID != rec.InstanceID || !r.Owned() {
		left := min(max(0, time.Until(rec.ExpiresAt())), rec.TTL)
		r = &report{lease: l.Name, Status: owner.Status{Record: rec, Condition: owner.Live, Remaining: left}}
	}
	r.remote = l.Config.Store != nil
	return r
}
