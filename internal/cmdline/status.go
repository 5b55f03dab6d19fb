package cmdline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

const statusDescription = `Says who owns the lease, since when, where to reach the owner, and whether it is
live, hung, dead, has released the lease, or was deprived of it. It only looks.

With --json, one JSON object, always with these keys: lease, owned, condition
(live, hung, dead, expired, released, revoked, none: no record, or unreadable),
remaining and ttl (in seconds), instance_id, pid, host, epoch, acquired_at,
renewed_at, endpoint, meta, error. What is not known is null.`

const statusCodes = `  0           somebody owns the lease
  3           nobody does
  4           there is something, but no record that can be read
  125         this program itself failed`

// Status is the subcommand that says who owns a lease.
func Status(p *Place) *cli.Command {
	return &cli.Command{
		Name:            "status",
		Usage:           "say who owns a lease",
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

// The conditions in which there is nothing that owner.Probe could tell more of.
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

func statusAction(c *cli.Command, p *Place) error {
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

var meanings = map[owner.Condition]string{
	owner.Unconfirmed: "the lease has not expired, and whether its owner's process exists cannot be told",
	owner.Live:        "the owner's process exists and its lease is valid",
	owner.Hung:        "nobody owns the lease; its owner's process exists, but has let it expire",
	owner.Dead:        "nobody owns the lease; its owner's process has ended without releasing it",
	owner.Expired:     "nobody owns the lease; whether its owner's process still exists cannot be told",
	owner.Released:    "nobody owns the lease; its owner has given it up",
	owner.Revoked:     "the lease was taken away from its owner, which may not have stopped yet",
	none:              "nobody owns the lease; there is no record",
}

func (r *report) meaning() string {
	if r.remote && r.Condition == owner.Live {
		return "the lease is valid; whether its owner's process still exists cannot be told"
	}
	return cmp.Or(r.damage, meanings[r.Condition])
}

// text is for people.
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
	if rec.AcquiredAt.IsZero() { // somebody has removed a live owner's record
		line(who, "instance %s, whose record is missing", rec.InstanceID)
		return
	}
	line(who, "pid %d on %s", rec.PID, rec.Host)
	line("since", "%s", since(rec.AcquiredAt, now))
	line("renewed", "%s", since(rec.RenewedAt, now))
	left := fmt.Sprintf("%v of %v", r.Remaining.Round(time.Millisecond), rec.TTL)
	switch {
	case r.Condition == owner.Live:
		line("remaining", "%s, unless it is renewed", left)
	case r.Owned():
		line("remaining", "%s, unless it stops before", left)
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

// since is a time for people: theirs, and how long ago.
func since(t, now time.Time) string {
	local := t.Local().Format("2006-01-02 15:04:05 MST")
	switch age := now.Sub(t); {
	case age < 0: // the clock has been set back
		return local
	case age < time.Second:
		return local + " (just now)"
	default:
		return fmt.Sprintf("%s (%v ago)", local, age.Truncate(time.Second))
	}
}

// jsonReport is what is printed with --json.
type jsonReport struct {
	Lease     string          `json:"lease"`
	Owned     bool            `json:"owned"`
	Condition owner.Condition `json:"condition"`
	Remaining float64         `json:"remaining"`
	jsonRecord
	Error *string `json:"error"`
}

// jsonRecord is a record for programs: what is not known is null.
type jsonRecord struct {
	TTL        *float64          `json:"ttl"`
	InstanceID *string           `json:"instance_id"`
	PID        *int              `json:"pid"`
	Host       *string           `json:"host"`
	Epoch      *uint64           `json:"epoch"`
	AcquiredAt *time.Time        `json:"acquired_at"`
	RenewedAt  *time.Time        `json:"renewed_at"`
	Endpoint   *string           `json:"endpoint"`
	Meta       map[string]string `json:"meta"`
}

func recordForPrograms(rec owner.Record) jsonRecord {
	var out jsonRecord
	if rec.InstanceID != "" {
		out.InstanceID = &rec.InstanceID
	}
	if rec.AcquiredAt.IsZero() { // somebody has removed a live owner's record
		return out
	}
	out.TTL = pointerTo(rec.TTL.Seconds())
	out.PID, out.Host, out.Epoch = &rec.PID, &rec.Host, &rec.Epoch
	out.AcquiredAt, out.RenewedAt = &rec.AcquiredAt, &rec.RenewedAt
	if e, ok := rec.Meta[owner.EndpointMetaKey]; ok {
		out.Endpoint = &e
	}
	out.Meta = rec.Meta
	if out.Meta == nil {
		out.Meta = map[string]string{}
	}
	return out
}

// json is for programs.
func (r *report) json(w io.Writer, _ time.Time) error {
	out := jsonReport{
		Lease: r.lease, Owned: r.Owned(), Condition: r.Condition, Remaining: r.Remaining.Seconds(),
		jsonRecord: recordForPrograms(r.Record),
	}
	if r.damage != "" {
		out.Error = &r.damage
	}
	return writeJSON(w, out)
}

// writeJSON writes one line.
func writeJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", escape(b))
	return err
}

// escape writes what is not to be seen as \u…: encoding/json escapes the control
// characters of ASCII, and leaves the others, which a terminal obeys as well.
func escape(b []byte) []byte {
	var out []byte
	for _, r := range string(b) {
		if unicode.IsGraphic(r) {
			out = append(out, string(r)...)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}

// pointerTo is new(v), which Go 1.25 does not take.
func pointerTo[T any](v T) *T { return &v }
