package cmdline

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/ownerlease/owner"
)

// docs/json.md is the page on the objects that are printed with --json.

// A jsonReport is how status and list print a lease.
type jsonReport struct {
	Lease     string          `json:"lease"`
	Owned     bool            `json:"owned"`
	Condition owner.Condition `json:"condition"`
	Remaining *string         `json:"remaining"`
	Expires   *time.Time      `json:"expires"`
	jsonRecord
	Error *string `json:"error"`
}

// A jsonRecord is an owner.Record as its MarshalJSON writes it, and its endpoint. What is
// not known is null.
type jsonRecord struct {
	InstanceID *string           `json:"instance_id"`
	PID        *int              `json:"pid"`
	Host       *string           `json:"host"`
	Epoch      *uint64           `json:"epoch"`
	AcquiredAt *time.Time        `json:"acquired_at"`
	RenewedAt  *time.Time        `json:"renewed_at"`
	TTL        *string           `json:"ttl"`
	Released   *bool             `json:"released"`
	Meta       map[string]string `json:"meta"`
	Endpoint   *string           `json:"endpoint"`
}

func recordForPrograms(rec owner.Record) jsonRecord {
	var out jsonRecord
	if rec.InstanceID != "" {
		out.InstanceID = &rec.InstanceID
	}
	if rec.AcquiredAt.IsZero() { // a live owner's record was removed
		return out
	}
	out.PID, out.Host, out.Epoch, out.Released = &rec.PID, &rec.Host, &rec.Epoch, &rec.Released
	out.AcquiredAt, out.RenewedAt = pointerTo(rec.AcquiredAt.UTC()), pointerTo(rec.RenewedAt.UTC())
	out.TTL = pointerTo(rec.TTL.String())
	if e, ok := rec.Meta[owner.EndpointMetaKey]; ok {
		out.Endpoint = &e
	}
	out.Meta = rec.Meta
	if out.Meta == nil {
		out.Meta = map[string]string{}
	}
	return out
}

// pointerTo is new(v), which Go 1.25 does not take.
func pointerTo[T any](v T) *T { return &v }

// timeForPrograms is null for the zero time. More digits would have no meaning.
func timeForPrograms(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return pointerTo(t.UTC().Truncate(time.Millisecond))
}

func durationForPrograms(d time.Duration) *string {
	return pointerTo(d.Round(time.Millisecond).String())
}

// object is the report's JSON object.
func (r *report) object(now time.Time) jsonReport {
	out := jsonReport{
		Lease: r.lease, Owned: r.Owned(), Condition: r.Condition,
		Expires: timeForPrograms(r.expires(now)), jsonRecord: recordForPrograms(r.Record),
	}
	if r.Condition != unreadable && (!r.Owned() || r.told()) {
		out.Remaining = durationForPrograms(r.Remaining)
	}
	if r.damage != "" {
		out.Error = &r.damage
	}
	return out
}

// json prints the machine-readable form.
func (r *report) json(w io.Writer, now time.Time) error { return writeJSON(w, r.object(now)) }

// writeJSON writes one line.
func writeJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", escape(b))
	return err
}

// escape writes invisible characters as \u…: encoding/json escapes the control characters
// of ASCII, but not the others, which a terminal obeys as well.
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
