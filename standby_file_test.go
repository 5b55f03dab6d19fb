package owner

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
)

// Standing by on real files with real hints. What is waited for comes by a hint:
// the leases' TTL of a minute, or an hour, is longer than any test runs.

// An owner notices what happens to its record when it happens.
func TestOwnerNoticesTamperingAtOnce(t *testing.T) {
	notOnWindows(t)
	for name, tc := range map[string]struct {
		tamper func(t *testing.T, path string)
		want   error
	}{
		"removed":  {func(t *testing.T, p string) { must(t, os.Remove(p)) }, ErrRevoked},
		"moved":    {func(t *testing.T, p string) { must(t, os.Rename(p, p+".away")) }, ErrRevoked},
		"replaced": {func(t *testing.T, p string) { plant(t, p+".new", nil); must(t, disk.Replace(p+".new", p)) }, ErrTakenOver},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			p := leasePath(t)
			o := joinFile(t, p, watched)
			tc.tamper(t, p)
			<-o.Lost()
			<-o.Done()
			if !errors.Is(o.LostErr(), tc.want) {
				t.Errorf("lost by %v, want %v", o.LostErr(), tc.want)
			}
		})
	}
}

// The alive file is put back as soon as it is taken away.
func TestOwnerRestoresItsAliveFileAtOnce(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p, watched)
	must(t, os.Remove(alivePath(p, o.InstanceID())))
	s, err := newFileStore(p)
	must(t, err)
	for s.alive(o.InstanceID(), 0) != lives { // the test's time limit ends this
		time.Sleep(100 * time.Microsecond)
	}
	if !o.IsOwner() {
		t.Error(o.LostErr())
	}
}

// What concerns another lease of the folder, and unrelated files, gives no hint.
func TestHintsAreOfThisLease(t *testing.T) {
	p := leasePath(t)
	m := &moves{}
	o := joinFile(t, p, watched, func(c *Config) { c.OnTransition = m.add })
	other := joinFile(t, p+"2", watched)
	must(t, os.WriteFile(p+".notes", nil, 0o600), os.Remove(p+".notes"))
	must(t, other.Release())
	must(t, o.a.lease.Renew(t.Context(), clock.Now())) // a heartbeat is no news, either
	must(t, o.Release())
	<-o.Done()
	if got := m.events(); got != "acquire acquired release " {
		t.Errorf("events: %s", got)
	}
}

// A hundred stand by: each change of owner is seen by all, and there is one at a
// time.
func TestHundredFollowersOfOneFile(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := leasePath(t)
	current := joinFile(t, p, watched)
	all := make([]*Owner, 100)
	for i := range all {
		all[i] = joinFile(t, p, watched, standby)
	}
	for range 5 {
		must(t, current.Release())
		current = nil
		for current == nil {
			for _, o := range all {
				if o.IsOwner() {
					current = o
				}
			}
		}
		for _, o := range all {
			for o.State() != StateReleased && o.InstanceID() != current.InstanceID() {
				time.Sleep(100 * time.Microsecond)
			}
			if o != current && o.IsOwner() {
				t.Fatal("two owners")
			}
		}
	}
	for _, o := range all {
		must(t, o.Release())
		<-o.Done()
	}
}

// A standing-by process takes over from one that was killed, though its lease
// would last for an hour.
func TestStandbyAfterKill(t *testing.T) {
	p := leasePath(t)
	a, b := startChild(t, p), startChild(t, p)
	a.mustSay("join 1h", "owner")
	b.mustSay("stand 1h", "follower")
	o := joinFile(t, p, watched, standby)
	must(t, a.cmd.Process.Kill())
	elected := make(chan string)
	go func() {
		b.say("elected")
		elected <- b.hear()
	}()
	select {
	case <-elected:
		for o.Endpoint() != b.endpoint() {
			time.Sleep(100 * time.Microsecond)
		}
		must(t, b.cmd.Process.Kill())
		<-o.Elected()
	case <-o.Elected():
		must(t, o.Release())
		<-elected
	}
}

// Successive owners in processes of their own, each killed: a follower sees each.
func TestStandbySeesEveryOwner(t *testing.T) {
	p := leasePath(t)
	first := startChild(t, p)
	first.mustSay("join 1h", "owner")
	f := startChild(t, p)
	f.mustSay("stand 1h", "follower")
	if got := f.ask("follows"); !strings.HasSuffix(got, first.endpoint()) {
		t.Errorf("follows %s", got)
	}
	must(t, first.cmd.Process.Kill())
	f.mustSay("elected", "elected")
	if got := f.ask("follows"); !strings.HasSuffix(got, f.endpoint()) {
		t.Errorf("follows %s", got)
	}
}

func (c *child) endpoint() string { return endpointOf(c.cmd.Process.Pid) }

// Goleak: every way in which standing by can end.
func TestNoLeakStandby(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, first, o *Owner, cancel func()){
		"released": func(t *testing.T, _, o *Owner, _ func()) { must(t, o.Release()) },
		"ended":    func(_ *testing.T, _, _ *Owner, cancel func()) { cancel() },
		"elected, released": func(t *testing.T, first, o *Owner, _ func()) {
			must(t, first.Release())
			<-o.Elected()
			must(t, o.Release())
		},
		"elected, ended": func(t *testing.T, first, o *Owner, cancel func()) {
			must(t, first.Release())
			<-o.Elected()
			cancel()
		},
		"elected, lost": func(t *testing.T, first, o *Owner, _ func()) {
			must(t, first.Release())
			<-o.Elected()
			plant(t, o.a.store.(*fileStore).path+".new", nil)
			must(t, disk.Replace(o.a.store.(*fileStore).path+".new", o.a.store.(*fileStore).path))
			<-o.Lost()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			first := joinFile(t, p, watched)
			ignore := goleak.IgnoreCurrent() // the owner's, and what it shares
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s, err := newFileStore(p)
			must(t, err)
			o, err := Join(ctx, Config{Store: s, TTL: time.Minute, Standby: true})
			must(t, err)
			end(t, first, o, cancel)
			<-o.Done()
			goleak.VerifyNone(t, ignore)
			must(t, first.Release())
			<-first.Done()
			release(o)
		})
	}
	goleak.VerifyNone(t)
}

func TestRevoke(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	if r, err := Revoke(t.Context(), p); err != nil || r.InstanceID != "" {
		t.Errorf("nobody owns, and it was taken from %+v, %v", r, err)
	}
	o := joinFile(t, p, watched, short)
	next := joinFile(t, p, watched, standby)
	r, err := Revoke(t.Context(), p)
	must(t, err)
	if r.InstanceID != o.InstanceID() || o.IsOwner() || !closed(o.Lost()) || !errors.Is(o.LostErr(), ErrRevoked) {
		t.Errorf("revoked %+v: %v", r, o.LostErr())
	}
	<-next.Elected()
	must(t, next.Release())
	for _, name := range fileNames(t, p) {
		if strings.HasSuffix(name, ".tmp") || strings.Contains(name, o.InstanceID()) {
			t.Errorf("%s is left", name)
		}
	}
	if _, err := Revoke(t.Context(), ""); !errors.Is(err, ErrInvalidConfig) {
		t.Error(err)
	}
}

// A revoked owner that hangs keeps the lease for no longer than a TTL from the
// revocation, and never for less than it may believe in.
func TestRevokeAHungOwner(t *testing.T) {
	notOnWindows(t)
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		h := plant(t, p, nil)
		live(t, p, h.InstanceID) // it holds its lock, and does nothing
		s, err := newFileStore(p)
		must(t, err)
		time.Sleep(30 * time.Second)
		rec, err := s.revoke(t.Context())
		must(t, err)
		start := time.Now()
		if rec.InstanceID != h.InstanceID {
			t.Fatalf("revoked %+v", rec)
		}
		if st, err := Probe(p); err != nil || st.Condition != Revoked || st.Record.Epoch != h.Epoch {
			t.Errorf("%+v, %v", st, err)
		}
		if o := joinFile(t, p); o.IsOwner() || o.InstanceID() != h.InstanceID {
			t.Error("owns at once: the owner may have renewed just before")
		}
		time.Sleep(time.Until(start.Add(time.Minute - 1)))
		if joinFile(t, p).IsOwner() {
			t.Error("owns within the TTL")
		}
		time.Sleep(1)
		o := joinFile(t, p)
		if !o.IsOwner() || o.Epoch() <= h.Epoch {
			t.Errorf("not free after a TTL: %+v", o.Holder())
		}
	})
}

// The end of somebody's patience ends the waiting; the lease stays revoked.
func TestRevokeEnds(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	h := plant(t, p, nil)
	live(t, p, h.InstanceID)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for r, err := readFile(p); err != nil || !r.Revoked; r, err = readFile(p) {
			time.Sleep(100 * time.Microsecond)
		}
		cancel(errShutdown)
	}()
	if r, err := Revoke(ctx, p); !errors.Is(err, errShutdown) || r.InstanceID != h.InstanceID {
		t.Errorf("%+v, %v", r, err)
	}
}
