package cmdline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

const revokeDescription = `Takes the lease away from its owner, and waits until that has stopped, or its lease
has expired. The owner is notified at once, and has what is left of its lease to stop.
It may join again; a standby acquires the lease as after any loss.`

const revokeCodes = `  0           the lease was taken away, and its owner owns it no longer
  3           the lease had no owner
  124         timeout: after the whole of -w, its owner may not have stopped yet
  125         this program itself failed
  128+n       signal n has ended the wait`

// A revoker takes a lease away from its owner, as owner.Revoke does.
type revoker func(ctx context.Context, l *Lease) (owner.Record, error)

// Revoke is the subcommand that takes a lease away from its owner.
func Revoke(p *Backend, revoke revoker) *cli.Command {
	return &cli.Command{
		Name:            "revoke",
		Usage:           "take a lease away from its owner",
		ArgsUsage:       p.Usage,
		Description:     p.describe(revokeDescription, revokeCodes),
		HideHelpCommand: true,
		Flags: append(p.Flags(),
			&DurationFlag{Name: "wait", Aliases: []string{"w"}, Usage: "wait for `DURATION` at most", HideDefault: true}),
		Action: func(ctx context.Context, c *cli.Command) error { return revokeAction(ctx, c, p, revoke) },
	}
}

func revokeAction(ctx context.Context, c *cli.Command, p *Backend, revoke revoker) error {
	l, err := p.open(c)
	if err != nil {
		return err
	}
	defer l.close()
	ctx, stop := untilSignal(ctx)
	defer stop()
	if c.IsSet("wait") {
		wait := c.Duration("wait")
		if wait <= 0 {
			return usage(c, "--wait %v is not positive", wait)
		}
		var end context.CancelFunc
		ctx, end = context.WithTimeoutCause(ctx, wait, &exit{codeTimeout, fmt.Errorf("gave up after %v", wait)})
		defer end()
	}
	was, err := revoke(ctx, l)
	if was.InstanceID != "" {
		_, printed := fmt.Fprintln(c.Root().Writer, clean(fmt.Sprintf("revoked: %s, epoch %d", identity(was, time.Now()), was.Epoch)))
		if printed != nil && err == nil {
			err = printed
		}
	}
	return revokeExit(l.Name, was, err)
}

// revokeExit is the exit of revoke. was is the owner, if the lease was taken away from
// one; err is then what ended the wait.
func revokeExit(lease string, was owner.Record, err error) error {
	taken := was.InstanceID != ""
	var ended *exit
	switch {
	case err == nil && taken:
		return nil
	case err == nil:
		return &exit{codeNotOwned, fmt.Errorf("%s has no owner", lease)}
	case !errors.As(err, &ended):
		return fail(err)
	}
	what := "the lease was not taken away"
	if taken {
		what = "its owner may not have stopped yet"
	}
	if ended.err == nil {
		return &exit{ended.code, errors.New(what)}
	}
	return &exit{ended.code, fmt.Errorf("%w: %s", ended.err, what)}
}
