package cmdline

import (
	"encoding/json"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// asPrinted is a printed object.
func asPrinted(t *testing.T, print func(io.Writer) error) map[string]any {
	t.Helper()
	var b strings.Builder
	if err := print(&b); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(b.String()), &fields); err != nil {
		t.Fatalf("%v: %s", err, &b)
	}
	return fields
}

func TestJSONIsFaithfulAndHarmless(t *testing.T) {
	t.Parallel()
	const hostile = "\x00\x1b[2J\u0085\u009b\x7f\u202e\u2066\u2028\u200b\U000e0041\ue000 Grüße 🙂 <&>"
	r := sample(owner.Live)
	r.Record.Host, r.Record.Meta = hostile, map[string]string{hostile: hostile}
	var b strings.Builder
	if err := r.json(&b, time.Now()); err != nil {
		t.Fatal(err)
	}
	line, ok := strings.CutSuffix(b.String(), "\n")
	if !ok || clean(line) != line {
		t.Errorf("a terminal would obey this: %q", line)
	}
	var got struct {
		Host string
		Meta map[string]string
		TTL  string
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil || got.Host != hostile || got.Meta[hostile] != hostile || got.TTL != "10s" {
		t.Errorf("%v: %+v", err, got)
	}
}

// A record has one JSON shape: what status and watch print is what Record's own JSON
// has, and can be read as a Record.
func TestOneShapeOfARecord(t *testing.T) {
	t.Parallel()
	rec := sample(owner.Live).Record
	rec.AcquiredAt, rec.RenewedAt = rec.AcquiredAt.In(time.FixedZone("", 3600)), rec.RenewedAt.In(time.FixedZone("", 3600))
	rec.Released = true
	b, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	var own map[string]any
	if err := json.Unmarshal(b, &own); err != nil {
		t.Fatal(err)
	}
	r := &report{lease: "/run/l", Status: owner.Status{Record: rec, Condition: owner.Released}}
	c := &change{lease: "/run/l", owner: rec}
	for name, print := range map[string]func(io.Writer) error{
		"status": func(w io.Writer) error { return r.json(w, time.Now()) },
		"watch":  c.json,
	} {
		var text strings.Builder
		printed := asPrinted(t, func(w io.Writer) error { return print(io.MultiWriter(w, &text)) })
		for key, want := range own {
			if got := printed[key]; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s is %v, and in the record's own JSON %v", name, key, got, want)
			}
		}
		var back owner.Record
		if err := json.Unmarshal([]byte(text.String()), &back); err != nil || back.TTL != rec.TTL || back.InstanceID != rec.InstanceID || !back.RenewedAt.Equal(rec.RenewedAt) {
			t.Errorf("%s: read as %+v, %v", name, back, err)
		}
	}
}

func TestWhatIsNotKnownIsNull(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 4, 5, 6, 0, time.UTC)
	nameless := owner.Status{Condition: owner.Live, Record: owner.Record{InstanceID: "i"}}
	for _, c := range []struct {
		report             report
		remaining, expires any
	}{
		{*sample(owner.Live), "7.5s", "2030-01-02T04:05:13.5Z"},
		{*sample(owner.Unconfirmed), "7.5s", "2030-01-02T04:05:13.5Z"},
		{report{Status: owner.Status{Condition: owner.Revoked, Record: sample(owner.Revoked).Record}}, "0s", nil},
		{report{Status: owner.Status{Condition: owner.Dead, Record: sample(owner.Dead).Record}}, "0s", nil},
		{report{Status: owner.Status{Condition: none}}, "0s", nil},
		{report{Status: owner.Status{Condition: unreadable}}, nil, nil},
		{report{Status: nameless}, nil, nil},
	} {
		got := asPrinted(t, func(w io.Writer) error { return c.report.json(w, now.Local()) })
		if got["remaining"] != c.remaining || got["expires"] != c.expires {
			t.Errorf("%s: remaining %v, expires %v; want %v, %v", c.report.Condition, got["remaining"], got["expires"], c.remaining, c.expires)
		}
	}
}

// docs/json.md shows an object as it is printed, and explains every key.
func TestDocsShowTheJSON(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2030, 1, 2, 3, 4, 5, 678e6, time.UTC)
	r := &report{lease: "/run/lock/gpu0", Status: owner.Status{Condition: owner.Live, Remaining: 7216 * time.Millisecond, Record: owner.Record{
		InstanceID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", PID: 4242, Host: "gpu-1", Epoch: 1893553445678,
		AcquiredAt: at, RenewedAt: at.Add(time.Hour), TTL: 10 * time.Second,
		Meta: map[string]string{owner.EndpointMetaKey: "unix:/run/gpu0.sock", "version": "1.2"},
	}}}
	shown, err := json.MarshalIndent(r.object(at.Add(time.Hour+2784*time.Millisecond)), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "\n```json\n"+string(shown)+"\n```\n") {
		t.Errorf("docs/json.md does not show\n%s", shown)
	}
	explained := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		if row, ok := strings.CutPrefix(line, "| `"); ok {
			key, _, _ := strings.Cut(row, "`")
			explained[key] = true
		}
	}
	c := &change{lease: "l"}
	printed := asPrinted(t, func(w io.Writer) error { return r.json(w, at) })
	for key := range asPrinted(t, c.json) {
		printed[key] = nil
	}
	for key := range printed {
		if !explained[key] {
			t.Errorf("docs/json.md does not explain %q", key)
		}
		delete(explained, key)
	}
	for key := range explained {
		t.Errorf("docs/json.md explains %q, which is not printed", key)
	}
}
