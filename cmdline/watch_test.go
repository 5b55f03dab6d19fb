package cmdline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// seen yields what a watch has seen.
func seen(all ...any) watcher {
	return func(context.Context, string) iter.Seq2[owner.Record, error] {
		return func(yield func(owner.Record, error) bool) {
			for _, one := range all {
				rec, _ := one.(owner.Record)
				err, _ := one.(error)
				if !yield(rec, err) {
					return
				}
			}
		}
	}
}

// tell returns the lines of a watch whose context has ended at the end.
func tell(t *testing.T, form func(*change, io.Writer) error, all ...any) []string {
	t.Helper()
	ctx, end := context.WithCancelCause(context.Background())
	end(&exit{code: 143})
	var b strings.Builder
	err := tellChanges(ctx, &b, "/run/l", seen(all...), form)
	var e *exit
	if !errors.As(err, &e) || e.code != 143 {
		t.Errorf("%v", err)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func TestWatchText(t *testing.T) {
	t.Parallel()
	hostile := sample(owner.Live).Record
	fresh := owner.Record{InstanceID: "i", PID: 1, Host: "h", Epoch: 8, AcquiredAt: time.Now()}
	old := owner.Record{InstanceID: "o", PID: 2, Host: "h", Epoch: 9, AcquiredAt: time.Now().Add(-time.Hour)}
	got := tell(t, (*change).text, owner.Record{}, hostile, owner.Record{}, fresh,
		fmt.Errorf("watch: %w", owner.ErrCorruptRecord), owner.Record{}, old, owner.Record{}, owner.Record{InstanceID: "x"})
	wants := []string{
		"it has no owner", "pid 42 on h[7most owns it, epoch 7, endpoint unix:/x", "it has no owner", "pid 1 on h owns it, epoch 8",
		"cannot be read: watch: unreadable lease record", "it has no owner: pid 1 on h owned it for ", "pid 2 on h owns it, epoch 9, since ",
		"it has no owner: pid 2 on h owned it for 1h0m0", "instance x owns it; its record is missing",
	}
	if len(got) != len(wants) {
		t.Fatalf("%d lines: %q", len(got), got)
	}
	for i, want := range wants {
		at, what, _ := strings.Cut(got[i], "  ")
		if _, err := time.ParseInLocation("2006-01-02 15:04:05.000", at, time.Local); err != nil || !strings.HasPrefix(what, want) {
			t.Errorf("%q, want %q; %v", got[i], want, err)
		}
	}
}

func TestWatchJSON(t *testing.T) {
	t.Parallel()
	rec := sample(owner.Live).Record
	rec.AcquiredAt = time.Now().Add(-time.Minute)
	lines := tell(t, (*change).json, rec, owner.Record{}, errors.New("\u202eboom"), owner.Record{InstanceID: "x"})
	if len(lines) != 4 {
		t.Fatalf("%q", lines)
	}
	var got [4]map[string]any
	for i, line := range lines {
		if clean(line) != line {
			t.Errorf("a terminal would obey this: %q", line)
		}
		if err := json.Unmarshal([]byte(line), &got[i]); err != nil || len(got[i]) != 16 || got[i]["at"] == nil || got[i]["lease"] != "/run/l" {
			t.Errorf("%v: %s", err, line)
		}
	}
	owns, nobody, trouble, missing := got[0], got[1], got[2], got[3]
	if owns["owned"] != true || owns["pid"] != 42.0 || owns["ttl"] != "10s" || owns["expires"] != "2030-01-02T04:04:15Z" || owns["endpoint"] != "unix:/x\u009b" || owns["owned_for"] != nil || owns["error"] != nil {
		t.Errorf("%v", owns)
	}
	text, _ := nobody["owned_for"].(string)
	took, err := time.ParseDuration(text)
	if err != nil || nobody["owned"] != false || nobody["pid"] != nil || nobody["expires"] != nil || took < time.Minute || took > 2*time.Minute {
		t.Errorf("%v", nobody)
	}
	if trouble["owned"] != nil || trouble["error"] != "\u202eboom" {
		t.Errorf("%v", trouble)
	}
	if missing["owned"] != true || missing["instance_id"] != "x" || missing["epoch"] != nil || missing["meta"] != nil {
		t.Errorf("%v", missing)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, c := range []struct {
		write error
		seen  watcher
		code  int
		says  error
	}{
		{syscall.EPIPE, seen(owner.Record{}), 141, nil},
		{syscall.ENOSPC, seen(owner.Record{}), codeFailed, syscall.ENOSPC},
		{nil, seen(boom), codeFailed, boom}, // it could not begin
	} {
		var w io.Writer = io.Discard
		if c.write != nil {
			w = brokenWriter{c.write}
		}
		err := tellChanges(context.Background(), w, "l", c.seen, (*change).text)
		var e *exit
		if !errors.As(err, &e) || e.code != c.code || !errors.Is(e.err, c.says) {
			t.Errorf("%v; want exit %d, %v", err, c.code, c.says)
		}
	}
}

func TestRevokeExit(t *testing.T) {
	t.Parallel()
	was := owner.Record{InstanceID: "i"}
	boom := errors.New("boom")
	for _, c := range []struct {
		was  owner.Record
		err  error
		code int
		says string
	}{
		{was, nil, 0, ""},
		{owner.Record{}, nil, codeNotOwned, "l has no owner"},
		{owner.Record{}, boom, codeFailed, "boom"},
		{was, fmt.Errorf("revoke: %w", &exit{codeTimeout, errors.New("gave up after 1s")}), codeTimeout, "gave up after 1s: its owner may not have stopped yet"},
		{owner.Record{}, &exit{codeTimeout, errors.New("gave up after 1s")}, codeTimeout, "gave up after 1s: the lease was not taken away"},
		{was, &exit{code: 143}, 143, "its owner may not have stopped yet"},
	} {
		err := revokeExit("l", c.was, c.err)
		e := &exit{}
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		if e.code != c.code || (c.says == "") != (e.err == nil) || e.err != nil && e.err.Error() != c.says {
			t.Errorf("%v: %v, want %d, %q", c.err, err, c.code, c.says)
		}
	}
}
