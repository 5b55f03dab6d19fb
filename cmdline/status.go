package cmdline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

const statusDescription = `Shows who owns the lease, since when, where to reach the owner, and whether it is
live, hung or dead, has released the lease, or has lost it by revoke. It only reads.

With --json, one JSON object, always with these keys: lease, owned, condition
(live, unconfirmed, hung, dead, expired, released, revoked, none: no record, or
unreadable), remaining (a duration such as "7.5s"), expires (when that is over), those
of the record: instance_id, pid, host, epoch, acquired_at, renewed_at, ttl ("10s"),
released, meta; and endpoint, error. Times are UTC. What is not known is null.`

const statusCodes = `  0           the lease is owned
  3           the lease is not owned
  4           the lease's record cannot be read
  125         this program itself failed`

// Status is the subcommand that shows who owns a lease.
func Status(p *Backend) *cli.Command {
	return &cli.Command{
		Name:            "status",
		Usage:           "show who owns a lease",
		ArgsUsage:       p.Usage,
		Description:     p.describe(statusDescription, statusCodes),
		HideHelpCommand: true,
		Flags:           append(p.Flags(), jsonFlag()),
		Action:          func(_ context.Context, c *cli.Command) error { return statusAction(c, p) },
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "for programs", HideDefault: true}
}

// The conditions in which owner.Probe returns no status.
const (
	none       owner.Condition = "none"
	unreadable owner.Condition = "unreadable"
)

// A report is a lease as it is reported.
type report struct {
	owner.Status
	lease  string
	damage string // why it is unreadable
	remote bool   // the owner's process cannot be seen
}

func statusAction(c *cli.Command, p *Backend) error {
	l, err := p.open(c)
	if err != nil {
		return err
	}
	defer l.close()
	r, err := look(l.Name, l.probe)
	if err != nil {
		return fail(err)
	}
	r.remote = l.Config.Store != nil
	show := r.text
	if c.Bool("json") {
		show = r.json
	}
	if err := show(c.Root().Writer, time.Now()); err != nil {
		return fail(err)
	}
	return r.exit()
}

func look(lease string, probe func(string) (owner.Status, error)) (*report, error) {
	st, err := probe(lease)
	r := &report{Status: st, lease: lease}
	switch {
	case errors.Is(err, owner.ErrCorruptRecord):
		r.Condition = unreadable
		r.damage = strings.TrimPrefix(err.Error(), owner.ErrCorruptRecord.Error()+": ")
	case errors.Is(err, fs.ErrNotExist):
		r.Condition = none
	case err != nil:
		return nil, err
	}
	return r, nil
}

func (r *report) exit() error {
	switch {
	case r.Owned():
		return nil
	case r.Condition == unreadable:
		return &exit{code: codeUnreadable}
	}
	return &exit{code: codeNotOwned}
}

// known reports whether there is a record.
func (r *report) known() bool { return r.Condition != none && r.Condition != unreadable }

// told reports whether the record has more than the instance's id: that of a live owner
// may have been removed.
func (r *report) told() bool { return !r.Record.AcquiredAt.IsZero() }

var meanings = map[owner.Condition]string{
	owner.Live:        "the owner's process exists and its lease is valid",
	owner.Unconfirmed: "the lease has not expired; it is unknown whether its owner's process still exists",
	owner.Hung:        "the lease is free; its owner's process exists, but has let it expire",
	owner.Dead:        "the lease is free; its owner's process has ended without releasing it",
	owner.Expired:     "the lease is free; it is unknown whether its owner's process still exists",
	owner.Released:    "the lease is free; its owner has released it",
	owner.Revoked:     "the lease was revoked; its owner may not have stopped yet",
	none:              "the lease is free; there is no record",
}

func (r *report) meaning() string {
	switch {
	case r.remote && r.Condition == owner.Live:
		return "the lease is valid; it is unknown whether its owner's process still exists"
	case r.Condition == owner.Revoked && !r.Owned():
		return "the lease was revoked, and its owner has stopped"
	}
	return cmp.Or(r.damage, meanings[r.Condition])
}

// expires is when the lease expires unless it is renewed, counted from the read, which is
// more exact than the record's wall-clock times. It is the zero time where no instance
// owns the lease, or that is unknown.
func (r *report) expires(now time.Time) time.Time {
	if !r.Owned() || !r.told() {
		return time.Time{}
	}
	return now.Add(r.Remaining)
}

// text prints the human-readable form.
func (r *report) text(w io.Writer, now time.Time) error {
	var b strings.Builder
	line := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", key, clean(fmt.Sprintf(format, args...)))
	}
	line("lease", "%s", r.lease)
	line("condition", "%s: %s", r.Condition, r.meaning())
	if r.known() {
		r.record(line, now)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) record(line func(key, format string, args ...any), now time.Time) {
	rec := r.Record
	who := "owner"
	if !r.Owned() {
		who = "last owner"
	}
	if !r.told() {
		line(who, "instance %s, whose record is missing", rec.InstanceID)
		return
	}
	line(who, "pid %d on %s", rec.PID, rec.Host)
	line("since", "%s", since(rec.AcquiredAt, now))
	line("renewed", "%s", since(rec.RenewedAt, now))
	if at := r.expires(now); !at.IsZero() {
		until := "it is renewed"
		if r.Condition == owner.Revoked {
			until = "its owner stops before"
		}
		line("expires", "%s (in %v of %v), unless %s", local(at), r.Remaining.Round(time.Millisecond), rec.TTL, until)
	}
	line("epoch", "%d", rec.Epoch)
	line("instance", "%s", rec.InstanceID)
	if e, ok := rec.Meta[owner.EndpointMetaKey]; ok {
		line("endpoint", "%s", e)
	}
	for _, k := range slices.Sorted(maps.Keys(rec.Meta)) {
		if k != owner.EndpointMetaKey {
			line("meta", "%s=%s", k, rec.Meta[k])
		}
	}
}

// since formats a time for display: in local time, and how long ago.
func since(t, now time.Time) string {
	switch age := now.Sub(t); {
	case age < 0: // the clock has been set back
		return local(t)
	case age < time.Second:
		return local(t) + " (just now)"
	default:
		return fmt.Sprintf("%s (%v ago)", local(t), age.Truncate(time.Second))
	}
}

func local(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }
