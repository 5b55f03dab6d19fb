package cmdline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

const watchDescription = `Prints a line for the present owner, and one for every change. Between two owners,
a line says that the lease has no owner, however quickly the second followed. Read
errors are reported, and watch continues.

With --json, one JSON object a line, always with these keys: at, lease, owned,
owned_for (how long the owner of the line before has owned it, such as "1m30s"),
expires (when the lease expires unless it is renewed), those of the record:
instance_id, pid, host, epoch, acquired_at, renewed_at, ttl ("10s"), released, meta;
and endpoint, error. Times are UTC. What is not known is null.`

const watchCodes = `  128+n       signal n has ended it: 130 after Ctrl-C, 141 when its output
              is closed
  125         this program itself failed`

// A watcher yields every change of a lease's owner, as owner.Watch does.
type watcher func(ctx context.Context, lease string) iter.Seq2[owner.Record, error]

// Watch is the subcommand that reports every change of owner.
func Watch(p *Backend) *cli.Command {
	return &cli.Command{
		Name:            "watch",
		Usage:           "report every change of a lease's owner",
		ArgsUsage:       p.Usage,
		Description:     p.describe(watchDescription, watchCodes),
		HideHelpCommand: true,
		Flags:           append(p.Flags(), jsonFlag()),
		Action:          func(ctx context.Context, c *cli.Command) error { return watchAction(ctx, c, p) },
	}
}

func watchAction(ctx context.Context, c *cli.Command, p *Backend) error {
	l, err := p.open(c)
	if err != nil {
		return err
	}
	defer l.close()
	ctx, stop := untilSignal(ctx)
	defer stop()
	ctx, unread := context.WithCancelCause(ctx)
	defer unread(nil)
	if out, ok := c.Root().Writer.(*os.File); ok {
		go whenUnread(out, func() { unread(errUnread) })
	}
	form := (*change).text
	if c.Bool("json") {
		form = (*change).json
	}
	return tellChanges(ctx, c.Root().Writer, l.Name, l.watch, form)
}

// errUnread is the end that SIGPIPE brings, if it comes first.
var errUnread error = &exit{code: signaled(syscall.SIGPIPE)}

// tellChanges returns how the command exits: only what ends it comes back.
func tellChanges(ctx context.Context, w io.Writer, lease string, watch watcher, form func(*change, io.Writer) error) error {
	var trouble error
	before := change{}
	for rec, err := range watch(ctx, lease) {
		now := change{lease: lease, at: time.Now(), owner: rec, err: err, before: before.owner}
		trouble = err
		switch err := form(&now, w); {
		case errors.Is(err, syscall.EPIPE):
			return errUnread
		case err != nil:
			return fail(err)
		}
		if err == nil {
			before = now
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fail(trouble) // it could not even begin
}

// A change is one line of the output.
type change struct {
	lease  string
	at     time.Time
	owner  owner.Record // the zero Record if no instance owns the lease
	err    error        // why that is unknown
	before owner.Record // the owner before, as far as it is known
}

// ownedFor is how long the owner before has owned the lease, where it has lost it
// and the clock makes sense of it.
func (c *change) ownedFor() (time.Duration, bool) {
	d := c.at.Sub(c.before.AcquiredAt)
	return d, c.err == nil && c.owner.InstanceID != c.before.InstanceID && !c.before.AcquiredAt.IsZero() && d >= 0
}

// text prints the human-readable form.
func (c *change) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s  %s\n", c.at.Local().Format("2006-01-02 15:04:05.000"), clean(c.what()))
	return err
}

func (c *change) what() string {
	switch {
	case c.err != nil:
		return "cannot be read: " + plain(c.err)
	case c.owner.InstanceID != "":
		return c.owns()
	}
	if d, ok := c.ownedFor(); ok {
		return fmt.Sprintf("it has no owner: %s owned it for %v", name(c.before), d.Round(time.Millisecond))
	}
	return "it has no owner"
}

func (c *change) owns() string {
	r := c.owner
	if nameless(r) {
		return fmt.Sprintf("instance %s owns it; its record is missing, or not there yet", r.InstanceID)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s owns it, epoch %d", name(r), r.Epoch)
	if c.at.Sub(r.AcquiredAt) >= time.Second { // otherwise it is news
		fmt.Fprintf(&b, ", since %s", since(r.AcquiredAt, c.at))
	}
	if e := r.Meta[owner.EndpointMetaKey]; e != "" {
		fmt.Fprintf(&b, ", endpoint %s", e)
	}
	return b.String()
}

// jsonChange is printed with --json.
type jsonChange struct {
	At       time.Time  `json:"at"`
	Lease    string     `json:"lease"`
	Owned    *bool      `json:"owned"`
	OwnedFor *string    `json:"owned_for"`
	Expires  *time.Time `json:"expires"`
	jsonRecord
	Error *string `json:"error"`
}

// json prints the machine-readable form.
func (c *change) json(w io.Writer) error {
	out := jsonChange{
		At: c.at.UTC(), Lease: c.lease, jsonRecord: recordForPrograms(c.owner),
		Expires: timeForPrograms(c.owner.ExpiresAt()),
	}
	if c.err == nil {
		out.Owned = pointerTo(c.owner.InstanceID != "")
	} else {
		out.Error = pointerTo(plain(c.err))
	}
	if d, ok := c.ownedFor(); ok {
		out.OwnedFor = durationForPrograms(d)
	}
	return writeJSON(w, out)
}
