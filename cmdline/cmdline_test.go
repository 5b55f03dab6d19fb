package cmdline

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/run"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain, Grüße 日本 🙂":                     "plain, Grüße 日本 🙂",
		"no-break\u00a0space":                   "no-break\u00a0space",
		"\x1b[31mred\x1b[0m":                    "[31mred[0m",
		"a\x00\a\b\t\n\v\f\r\x7fb":              "ab",
		"\u0085\u009b31m":                       "31m",
		"\x9b31m":                               "\ufffd31m", // the raw byte
		"user\u202egnp.exe":                     "usergnp.exe",
		"\u2066a\u2069\u200f\ufeff\u200b\u061c": "a",
		"line\u2028par\u2029":                   "linepar",
		"\U000e0041\ue000":                      "",
	} {
		if got := clean(in); got != want {
			t.Errorf("%+q: %+q, want %+q", in, got, want)
		}
	}
}

func TestComplaintIsOneLine(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	complain(&b, "owner", fmt.Errorf("owner: join: %w", errors.Join(owner.ErrExpired, errors.New("\x1b[2Jdisk"))))
	if got, want := b.String(), "owner: join: lease not renewed in time; [2Jdisk\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func sample(c owner.Condition) *report {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	return &report{lease: "/run/l", Status: owner.Status{Condition: c, Remaining: 7500 * time.Millisecond, Record: owner.Record{
		InstanceID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", PID: 42, Host: "h\x1b[7most", Epoch: 7,
		AcquiredAt: at, RenewedAt: at.Add(time.Hour), TTL: 10 * time.Second,
		Meta: map[string]string{"b": "2\u202e", "a": "1\nowner      root", owner.EndpointMetaKey: "unix:/x\u009b"},
	}}}
}

func TestText(t *testing.T) {
	t.Parallel()
	r := sample(owner.Live)
	var b strings.Builder
	now := r.Record.AcquiredAt.Add(time.Hour + 90*time.Second)
	if err := r.text(&b, now); err != nil {
		t.Fatal(err)
	}
	want := `lease      /run/l
condition  live: the owner's process exists and its lease is valid
owner      pid 42 on h[7most
since      ` + local(r.Record.AcquiredAt) + ` (1h1m30s ago)
renewed    ` + local(r.Record.RenewedAt) + ` (1m30s ago)
expires    ` + local(now.Add(7500*time.Millisecond)) + ` (in 7.5s of 10s), unless it is renewed
epoch      7
instance   6ba7b810-9dad-11d1-80b4-00c04fd430c8
endpoint   unix:/x
meta       a=1owner      root
meta       b=2
`
	if got := b.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for _, c := range []owner.Condition{owner.Live, owner.Unconfirmed, owner.Hung, owner.Dead, owner.Expired, owner.Released, owner.Revoked} {
		r := sample(c)
		var b strings.Builder
		if err := r.text(&b, time.Now()); err != nil {
			t.Fatal(err)
		}
		text, owned := b.String(), c == owner.Live || c == owner.Unconfirmed || c == owner.Revoked
		if meanings[c] == "" || !strings.Contains(text, "\ncondition  "+string(c)+": "+meanings[c]+"\n") {
			t.Errorf("%s: %s", c, text)
		}
		if owned != strings.Contains(text, "\nowner ") || owned == strings.Contains(text, "\nlast owner ") || owned != strings.Contains(text, "\nexpires ") {
			t.Errorf("%s: %s", c, text)
		}
		if owned != (r.exit() == nil) {
			t.Errorf("%s: %v", c, r.exit())
		}
	}
}

// A revoked lease whose owner has stopped is not owned, and status says why.
func TestTextOfAnEndedRevocation(t *testing.T) {
	t.Parallel()
	r := sample(owner.Revoked)
	r.Remaining = 0
	var b strings.Builder
	if err := r.text(&b, time.Now()); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if !strings.Contains(text, "\ncondition  revoked: the lease was revoked, and its owner has stopped\nlast owner ") || strings.Contains(text, "\nexpires ") || r.exit() == nil {
		t.Errorf("%v, %s", r.exit(), text)
	}
}

func TestLook(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, c := range []struct {
		err       error
		condition owner.Condition
		fails     error
		code      int
	}{
		{&fs.PathError{Op: "read", Path: "l", Err: fs.ErrNotExist}, none, nil, codeNotOwned},
		{fmt.Errorf("%w: l: wrong checksum", owner.ErrCorruptRecord), unreadable, nil, codeUnreadable},
		{boom, "", boom, 0},
	} {
		r, err := look("l", func(string) (owner.Status, error) { return owner.Status{}, c.err })
		if !errors.Is(err, c.fails) {
			t.Errorf("%v: %v", c.err, err)
		}
		if err != nil {
			continue
		}
		var e *exit
		if r.Condition != c.condition || !errors.As(r.exit(), &e) || e.code != c.code || e.err != nil {
			t.Errorf("%v: %s, %v", c.err, r.Condition, r.exit())
		}
	}
}

func TestRunExit(t *testing.T) {
	t.Parallel()
	at := func(code int) *int { return &code }
	now := time.Now()
	known := owner.Record{InstanceID: "i", PID: 4, Host: "h", AcquiredAt: now}
	for _, c := range []struct {
		code     int
		conflict *int
		err      error
		want     int
		says     string
	}{
		{code: 0, want: 0},
		{code: 9, want: 9},
		{err: &run.HeldError{Holder: known}, want: codeConflict, says: "l is owned by pid 4 on h since "},
		{err: &run.HeldError{Holder: known}, conflict: at(7), want: 7, says: "l is owned by pid 4 on h since "},
		{err: &run.HeldError{Holder: known}, conflict: at(0), want: 0, says: "l is owned by pid 4 on h since "},
		{err: &run.HeldError{Holder: known, Waited: time.Second}, want: codeTimeout, says: "gave up after 1s: l is owned by pid 4 on h since "},
		{err: &run.HeldError{Holder: owner.Record{InstanceID: "i"}}, want: codeConflict, says: "l is owned by instance i, whose record is missing"},
		{err: &run.HeldError{Waited: time.Second}, want: codeTimeout, says: "gave up after 1s: l does not answer"},
		{err: fmt.Errorf("lost: %w", &owner.LostError{Reason: owner.ErrTakenOver}), conflict: at(7), want: codeLost, says: "taken over"},
		{err: &run.ReleaseError{Err: errors.New("late")}, code: 5, want: 5, says: "late"},
		{err: &run.StartError{Err: fs.ErrNotExist}, want: codeNotFound, says: "COMMAND"},
		{err: &run.StartError{Err: fs.ErrPermission}, want: codeCannotRun, says: "COMMAND"},
		{err: errors.New("other"), conflict: at(7), want: codeFailed, says: "other"},
	} {
		conflict := usualCode
		if c.conflict != nil {
			conflict = *c.conflict
		}
		err := runExit("l", c.code, conflict, c.err)
		e := &exit{}
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		said := ""
		if e.err != nil {
			said = e.err.Error()
		}
		if e.code != c.want || (c.says == "") != (said == "") || !strings.Contains(said, c.says) {
			t.Errorf("%d, %v: exit %d, %q; want %d, %q", c.code, c.err, e.code, said, c.want, c.says)
		}
	}
}
