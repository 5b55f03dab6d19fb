package owner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/leasename"
	"github.com/ownerlease/owner/internal/proc"
)

// needsKill skips where no process can be ended safely, after it has checked that
// KillHolder says so.
func needsKill(t *testing.T) {
	t.Helper()
	p, err := proc.Open(os.Getpid())
	if err == nil {
		p.Close()
		return
	}
	lease := leasePath(t)
	c := startChild(t, lease)
	c.mustSay("acquire 10ms", "acquired true")
	if err := KillHolder(t.Context(), awaitHung(t, lease)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("want errors.ErrUnsupported, got %v", err)
	}
	c.mustSay("why", "")
	t.Skip("no process can be ended safely here: ", err)
}

// awaitHung waits until the owner hangs.
func awaitHung(t *testing.T, p string) Status {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		st, err := Probe(p)
		must(t, err)
		if st.Condition == Hung {
			return st
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("the owner is %s", st.Condition)
		}
	}
}

// alive reports whether the child still obeys.
func (c *child) alive() bool {
	_, err := fmt.Fprintln(c.in, "probe")
	return err == nil && c.out.Scan()
}

func TestKillHolder(t *testing.T) {
	needsKill(t)
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("acquire 300ms", "acquired true")
	st, err := Probe(p)
	must(t, err)
	if err := KillHolder(t.Context(), st); err == nil && st.Condition == Live {
		t.Error("an owner whose lease has not expired was killed")
	}
	if !c.alive() {
		t.Fatal("it has ended")
	}
	st = awaitHung(t, p)
	ended, cancel := context.WithCancelCause(t.Context())
	over := errors.New("over")
	cancel(over)
	if err := KillHolder(ended, st); !errors.Is(err, over) || !c.alive() {
		t.Errorf("killed after the context's end: %v", err)
	}
	must(t, KillHolder(t.Context(), st))
	if c.alive() {
		t.Error("it still lives")
	}
	if after, err := Probe(p); err != nil || after.Condition != Dead {
		t.Errorf("afterwards: %v, %v", after.Condition, err)
	}
	must(t, KillHolder(t.Context(), st)) // it has gone
	if o := joinFile(t, p); !o.IsOwner() {
		t.Error(o.Check())
	}
	must(t, KillHolder(t.Context(), st)) // another owns
}

// An owner that hangs is found also by the second name of its alive file, and when it still
// holds the guard.
func TestEvictHungOwner(t *testing.T) {
	needsKill(t)
	for name, harm := range map[string]func(t *testing.T, p string, c *child){
		"nothing": func(*testing.T, string, *child) {},
		"the alive file is removed": func(t *testing.T, p string, _ *child) {
			st, err := Probe(p)
			must(t, err)
			if err := os.Remove(leasename.Alive(p, st.Record.InstanceID)); err != nil {
				t.Skip("the file of a running process cannot be removed here: ", err)
			}
		},
		"it holds the guard": func(_ *testing.T, _ string, c *child) { c.mustSay("guard", "locked") },
		"it was revoked": func(t *testing.T, p string, _ *child) {
			s, err := newFileStore(p)
			must(t, err)
			_, err = s.revoke(t.Context(), uuid.NewString())
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			c := startChild(t, p)
			c.mustSay("acquire 200ms", "acquired true")
			harm(t, p, c)
			o, err := Campaign(t.Context(), Config{LeasePath: p, TTL: 5 * time.Second, Evict: KillHolder})
			must(t, err)
			if !o.IsOwner() || c.alive() {
				t.Errorf("owns: %v; the hung owner lives", o.Check())
			}
			must(t, o.Release())
		})
	}
}

// While Evict refuses, the lease stays where it is; the owner's process lives.
func TestEvictRefuses(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("acquire 10ms", "acquired true")
	awaitHung(t, p)
	no := errors.New("no")
	cfg := Config{LeasePath: p, TTL: time.Second, Evict: func(context.Context, Status) error { return no }}
	if _, err := Join(t.Context(), cfg); !errors.Is(err, no) {
		t.Errorf("Join: %v", err)
	}
	cfg.Evict = func(context.Context, Status) error { return nil }
	if _, err := Join(t.Context(), cfg); !errors.Is(err, errStillThere) {
		t.Errorf("Join: %v", err)
	}
	cfg.Evict = nil
	o, err := Join(t.Context(), cfg)
	must(t, err)
	if !o.IsOwner() || !c.alive() {
		t.Error("without Evict, the lease is taken, and the process lives")
	}
	must(t, o.Release())
}

// What KillHolder does not kill: here the alive lock is this process's, and the record says
// that the owner is another process, which has nothing to do with the lease.
func TestKillHolderRefuses(t *testing.T) {
	needsKill(t)
	for _, tc := range []struct {
		name   string
		change func(*diskHead)
		want   string
	}{
		{"started at another time", func(h *diskHead) { h.Started = "1" }, "another process"},
		{"a record of an earlier version", func(h *diskHead) { h.Started = "" }, "earlier version"},
		{"another boot", func(h *diskHead) { h.Clock = "linux x y" }, ""}, // not known to have expired
		{"this process", func(h *diskHead) { h.PID = os.Getpid() }, "this process"},
		{"pid 1", func(h *diskHead) { h.PID = 1 }, "never killed"},
		{"pid 0", func(h *diskHead) { h.PID = 0 }, "never killed"},
		{"pid -1", func(h *diskHead) { h.PID = -1 }, "never killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := leasePath(t)
			bystander := startChild(t, leasePath(t))
			bystander.mustSay("acquire 1m", "acquired true")
			holdAs(t, p, func(h *diskHead) { h.PID = bystander.cmd.Process.Pid; tc.change(h) })
			st, err := Probe(p)
			must(t, err)
			if err := KillHolder(t.Context(), st); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if !bystander.alive() {
				t.Error("the bystander was killed")
			}
		})
	}
}

// holdAs makes this process the holder of an expired lease whose record is another's.
func holdAs(t *testing.T, p string, change func(*diskHead)) {
	t.Helper()
	s, err := newFileStore(p)
	must(t, err)
	acq, err := s.Acquire(t.Context(), Record{InstanceID: uuid.NewString(), PID: os.Getpid(), TTL: time.Second})
	must(t, err)
	l := acq.Lease.(*fileLease)
	t.Cleanup(func() { _ = l.alive.Unlock(); _ = l.file.Close() })
	rec, err := s.readFile()
	must(t, err)
	change(&rec.diskHead)
	l.enc, err = newEncoder(rec.diskHead)
	must(t, err)
	must(t, l.write(diskTail{RenewedAt: time.Now(), Heartbeat: s.Now() - time.Minute}), l.file.Truncate(l.enc.size()))
}

// The record of a new owner says when its process was started; where a claim names another
// process, it does not.
func TestRecordSaysWhenItsProcessStarted(t *testing.T) {
	for _, pid := range []int{os.Getpid(), os.Getppid()} {
		s, err := newFileStore(leasePath(t))
		must(t, err)
		acq, err := s.Acquire(t.Context(), Record{InstanceID: uuid.NewString(), PID: pid, TTL: time.Minute})
		must(t, err)
		rec, err := s.readFile()
		must(t, err)
		want := ""
		if pid == os.Getpid() {
			want = proc.Started()
		}
		if rec.Started != want {
			t.Errorf("pid %d: %q, want %q", pid, rec.Started, want)
		}
		must(t, acq.Lease.Release(t.Context()))
	}
}
