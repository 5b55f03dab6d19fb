package cmdline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

const handoverDescription = `Asks the owner to step down, and waits until another process owns the lease. The owner
keeps the lease until its work has ended, so no two work at once. A COMMAND of "run"
gets TERM, and its "run" ends with it; a program that uses the library's Run becomes a
standby. Start a standby first: this command does not check that one is there. Where
none is, a "run" has ended all the same, its COMMAND with it, and the lease is free
(code 3); a program in the library's Run owns again (code 5). An owner that hangs, or
that does not listen to requests, keeps the lease: then "revoke" takes it away.

"run --replace" starts a successor, and asks for it when it is a standby.`

const handoverCodes = `  0           another process owns the lease; it is printed
  3           the lease has no owner, or had none
  5           the lease has an owner again, but not the one of --to, or the same process
  124         timeout: the owner has not stepped down; the request stays
  125         this program itself failed, or the owner was asked before for another
  128+n       signal n has ended the wait; the request stays`

// codeNotNamed is the exit code of a handover that went to another than was wanted.
const codeNotNamed = 5

const defaultHandoverTimeout = 30 * time.Second

// untaken is how long a lease may stay without an owner until it counts as not taken.
const untaken = 3 * time.Second

// Handover is the subcommand that asks an owner to step down.
func Handover(p *Backend) *cli.Command {
	return &cli.Command{
		Name:            "handover",
		Usage:           "ask the owner to step down, and wait for the next",
		ArgsUsage:       p.Usage,
		Description:     p.describe(handoverDescription, handoverCodes),
		HideHelpCommand: true,
		Flags: append(p.Flags(),
			&cli.StringFlag{Name: "to", OnlyOnce: true, Usage: "let the standby with the instance id `ID` own next"},
			&DurationFlag{Name: "timeout", Aliases: []string{"w", "wait"}, Value: defaultHandoverTimeout, Usage: "wait for `DURATION` at most"}),
		Action: func(ctx context.Context, c *cli.Command) error { return handoverAction(ctx, c, p) },
	}
}

// A handover is one that was asked for.
type handover struct {
	lease   *Lease
	to      string
	was     owner.Record // the owner that was asked
	advice  string       // the command that takes the lease away
	timeout time.Duration
	free    bool // the lease has no owner since
}

func handoverAction(ctx context.Context, c *cli.Command, p *Backend) error {
	l, err := p.open(c)
	if err != nil {
		return err
	}
	defer l.close()
	h := handover{lease: l, to: c.String("to"), timeout: c.Duration("timeout")}
	switch {
	case h.timeout <= 0:
		return usage(c, "--timeout %v is not positive: the owner needs time to end its work", h.timeout)
	case c.IsSet("to") && h.to == "":
		return usage(c, "--to is empty: give the instance id of a standby, or leave it out for any")
	}
	h.advice = fmt.Sprintf("%s revoke --%s %s", c.Root().Name, p.Flag, l.Name)
	ctx, stop := untilSignal(ctx)
	defer stop()
	ctx, end := context.WithTimeoutCause(ctx, h.timeout, &exit{codeTimeout, fmt.Errorf("gave up after %v", h.timeout)})
	defer end()
	if err := h.ask(ctx); err != nil {
		return h.failed(err)
	}
	next, err := h.wait(ctx)
	if next.InstanceID != "" {
		_, printed := fmt.Fprintln(c.Root().Writer, clean(fmt.Sprintf("owned by %s, instance %s, epoch %d", name(next), next.InstanceID, next.Epoch)))
		if printed != nil && err == nil {
			return fail(printed)
		}
	}
	return err
}

// ask notes who owns, and leaves the request.
func (h *handover) ask(ctx context.Context) error {
	st, err := h.lease.probe(h.lease.Name)
	if err == nil {
		h.was = st.Record
	}
	return owner.RequestHandover(ctx, h.lease.Config, h.to)
}

// failed is the exit where no request was left.
func (h *handover) failed(err error) error {
	var ended *exit
	switch {
	case errors.As(err, &ended) && ended.err != nil:
		return &exit{ended.code, fmt.Errorf("%w: the owner may not have been asked", ended.err)}
	case errors.As(err, &ended):
		return ended
	case errors.Is(err, owner.ErrNoHolder):
		return &exit{codeNotOwned, fmt.Errorf("%s has no owner to be asked: start one", h.lease.Name)}
	}
	return fail(err)
}

// wait returns who owns next, and the exit.
func (h *handover) wait(ctx context.Context) (owner.Record, error) {
	free, taken := context.WithCancelCause(ctx)
	defer taken(nil)
	var limit *time.Timer
	for rec, err := range h.lease.watch(free, h.lease.Name) {
		switch {
		case err != nil || rec.InstanceID == h.was.InstanceID && rec.InstanceID != "":
		case rec.InstanceID != "" && rec.Epoch != 0:
			return rec, h.judge(rec)
		case rec.InstanceID == "" && limit == nil:
			h.free = true
			limit = time.AfterFunc(untaken, func() { taken(errUntaken) })
			defer limit.Stop()
		}
	}
	return owner.Record{}, h.ended(context.Cause(free))
}

var errUntaken = errors.New("no standby was there")

// judge is the exit when this instance owns.
func (h *handover) judge(next owner.Record) error {
	switch {
	case h.to != "" && next.InstanceID != h.to:
		return &exit{codeNotNamed, fmt.Errorf("the standby %s has not taken over, and may have gone: see that it runs, and ask again", h.to)}
	case h.to == "" && next.PID == h.was.PID && next.Host == h.was.Host && next.PID != 0:
		return &exit{codeNotNamed, fmt.Errorf("%s has stepped down and owns again: no standby was there; start one first", name(next))}
	}
	return nil
}

// ended is the exit where no other owner was seen.
func (h *handover) ended(cause error) error {
	var ended *exit
	if errors.Is(cause, errUntaken) || h.free && errors.As(cause, &ended) && ended.code == codeTimeout {
		return &exit{codeNotOwned, fmt.Errorf("%s, and %s has no owner: no standby was there; start one", h.end(), h.lease.Name)}
	}
	if !errors.As(cause, &ended) {
		return fail(cause)
	}
	what := fmt.Errorf("%s still owns the lease: it may be ending its work, hang, or not listen; the request stays; to take the lease away: %s", name(h.was), h.advice)
	if ended.err == nil {
		return &exit{ended.code, what}
	}
	return &exit{ended.code, fmt.Errorf("%w: %w", ended.err, what)}
}

// end says how the ownership has ended: an owner that was asked to step down can hang, or die.
func (h *handover) end() string {
	if h.lease.Config.Store != nil { // which shows no owners of before
		return "the owner has stepped down, or its lease has expired"
	}
	if st, err := h.lease.probe(h.lease.Name); err == nil && st.Record.InstanceID == h.was.InstanceID {
		switch st.Condition {
		case owner.Hung:
			return "the owner hangs, and its lease has expired"
		case owner.Expired:
			return "the owner has not stepped down, and its lease has expired"
		case owner.Dead:
			return "the owner has ended without stepping down"
		case owner.Revoked:
			return "the lease was taken away from its owner"
		}
	}
	return "the owner has stepped down"
}
