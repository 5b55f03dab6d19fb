package owner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
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
		"replaced": {func(t *testing.T, p string) { plant(t, p+".new", nil); must(t, disk.OS.Replace(p+".new", p)) }, ErrTakenOver},
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
	must(t, os.Remove(leasename.Alive(p, o.InstanceID())))
	s, err := newFileStore(p)
	must(t, err)
	for s.alive(o.InstanceID(), 0) != live { // the test's time limit ends this
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

// A hundred standbys: each change of owner is seen by all, and there is one at a time.
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

// A standby takes over from a process that was killed, though its lease would last for an
// hour.
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

// A standby knows the owner, and then itself as the owner.
func TestStandbyInAnotherProcess(t *testing.T) {
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

// Nothing listens for the end of a process that is not followed any more.
func TestNoLeakFollowingAProcess(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 1h", "owner")
	ignore := goleak.IgnoreCurrent()
	o := joinFile(t, p, watched, standby)
	for holder := o.Holder(); !o.a.hints.subscribed(&holder); { // the test's time limit ends this
		time.Sleep(100 * time.Microsecond)
	}
	must(t, o.Release())
	<-o.Done()
	goleak.VerifyNone(t, ignore)
}

func (c *child) endpoint() string { return endpointOf(c.cmd.Process.Pid) }

// Goleak: every way in which a standby can end.
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
			must(t, disk.OS.Replace(o.a.store.(*fileStore).path+".new", o.a.store.(*fileStore).path))
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
		t.Errorf("none owns, and it was taken from %+v, %v", r, err)
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

// A revocation of a hung owner changes no expiry: its lease expires when it would have,
// for every challenger.
func TestRevokeAHungOwner(t *testing.T) {
	notOnWindows(t)
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		h := plant(t, p, nil)
		liveOwner(t, p, h.InstanceID) // it holds its lock, and does nothing
		start := time.Now()
		s, err := newFileStore(p)
		must(t, err)
		time.Sleep(30 * time.Second)
		rec, err := s.revoke(t.Context(), uuid.NewString())
		must(t, err)
		if rec.InstanceID != h.InstanceID {
			t.Fatalf("revoked %+v", rec)
		}
		if st, err := Probe(p); err != nil || st.Condition != Revoked || !st.Owned() || st.Record.Epoch != h.Epoch || st.Remaining != 30*time.Second {
			t.Errorf("%+v, %v", st, err)
		}
		time.Sleep(time.Until(start.Add(time.Minute - time.Nanosecond)))
		if o := joinFile(t, p); o.IsOwner() || o.InstanceID() != h.InstanceID {
			t.Error("owns before the lease has expired")
		}
		time.Sleep(time.Nanosecond)
		if o := joinFile(t, p); !o.IsOwner() || o.Epoch() <= h.Epoch {
			t.Errorf("not free when the lease has expired: %+v", o.Holder())
		}
	})
}

// What the owner does while its record is being replaced counts: a last renewal,
// or its release.
func TestRevocationKnowsWhatTheOwnerDidLast(t *testing.T) {
	notOnWindows(t)
	for name, tc := range map[string]struct {
		does func(t *testing.T, o *Owner)
		free bool
	}{
		"renews":   {func(t *testing.T, o *Owner) { must(t, o.a.lease.Renew(t.Context(), o.a.store.Now())) }, false},
		"releases": {func(t *testing.T, o *Owner) { must(t, o.Release()) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			o := joinFile(t, p)
			own, err := disk.OS.Open(p, os.O_RDONLY)
			must(t, err)
			defer own.Close()
			rec, err := readOpen(own)
			must(t, err)
			tc.does(t, o) // after the reading, and before the replacement
			last, err := readOpen(own)
			must(t, err)
			must(t, o.a.store.(unwatchedStore).publishRevocation(uuid.NewString(), rec, own, disk.Plain))
			got, err := readFile(p)
			must(t, err)
			if !got.Revoked || got.Heartbeat != last.Heartbeat || got.Heartbeat == rec.Heartbeat {
				t.Errorf("heartbeat %v, the owner's last is %v", got.Heartbeat, last.Heartbeat)
			}
			if joinFile(t, p).IsOwner() != tc.free {
				t.Errorf("free: %v, want %v", !tc.free, tc.free)
			}
		})
	}
	t.Run("is writing all the time", func(t *testing.T) {
		for range 300 {
			p := leasePath(t)
			o := joinFile(t, p)
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for !closed(stop) {
					_ = o.a.lease.Renew(context.Background(), o.a.store.Now())
				}
			}()
			rec, err := o.a.store.(unwatchedStore).revoke(t.Context(), uuid.NewString())
			close(stop)
			<-stopped
			if err == nil && rec.InstanceID == o.InstanceID() && o.a.lease.Renew(t.Context(), o.a.store.Now()) == nil {
				t.Fatal("nothing was revoked, without an error")
			}
		}
	})
	t.Run("cannot be known", func(t *testing.T) {
		p := leasePath(t)
		o := joinFile(t, p)
		own, err := disk.OS.Open(p, os.O_RDONLY)
		must(t, err)
		rec, err := readOpen(own)
		must(t, err, own.Close(), o.a.store.(unwatchedStore).publishRevocation(uuid.NewString(), rec, own, disk.Plain))
		if got, err := readFile(p); err != nil || got.Heartbeat != maxNumber {
			t.Errorf("others judge by a heartbeat that may not be the last: %v, %v", got, err)
		}
	})
}

// Watchers notice an owner that releases after its record was replaced.
func TestLettingGoGivesAHint(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	plant(t, p+".new", nil)
	must(t, os.Rename(p+".new", p))
	h := hints{given: make(chan struct{}, 1)}
	stop, err := storeAt(p).Watch(Record{}, h.give) // there may be more than one
	must(t, err)
	defer stop()
	must(t, o.Release())
	<-h.given
}

// The process that revokes is killed before it has copied the last heartbeat: then no
// process can decide by it, and the lease expires a TTL after it was first seen.
func TestUnfinishedRevocation(t *testing.T) {
	notOnWindows(t)
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		h := plant(t, p, func(h *diskHead, tail *diskTail) { h.Revoked, tail.Heartbeat = true, maxNumber })
		liveOwner(t, p, h.InstanceID)
		time.Sleep(time.Hour)
		start := time.Now()
		for time.Since(start) < time.Minute {
			if joinFile(t, p).IsOwner() {
				t.Fatalf("owns %v after it was seen first", time.Since(start))
			}
			time.Sleep(10 * time.Second)
		}
		if !joinFile(t, p).IsOwner() {
			t.Error("never free")
		}
	})
}

// An owner that calls Release after the revocation need not be waited for.
func TestReleaseAfterALossLetsASuccessorIn(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p, watched, func(c *Config) { c.TTL = time.Hour })
	next := joinFile(t, p, watched, standby)
	revoked := make(chan error)
	go func() {
		_, err := Revoke(t.Context(), p)
		revoked <- err
	}()
	<-o.Lost()
	if joinFile(t, p).IsOwner() {
		t.Error("owns while the owner before winds down")
	}
	must(t, o.Release())
	<-next.Elected()
	must(t, <-revoked)
}

// An instance that wins a second time, as after a win that came too late, keeps
// its alive file.
func TestSecondTryKeepsItsAliveFile(t *testing.T) {
	p := leasePath(t)
	s, err := newFileStore(p)
	must(t, err)
	claim := (&Config{TTL: time.Minute}).claim()
	for range 2 {
		acq, err := s.Acquire(t.Context(), *claim)
		must(t, err)
		if got := s.alive(claim.InstanceID, 0); got != live {
			t.Errorf("its alive file shows %v", got)
		}
		must(t, acq.Lease.Release(t.Context()))
	}
}

// What a failing attempt leaves behind gives hints. They are no reason for another.
func TestFailingAttemptsDoNotSpin(t *testing.T) {
	p := leasePath(t)
	first := joinFile(t, p, watched)
	var tries atomic.Int32
	done := make(chan struct{})
	o := joinFile(t, p, watched, standby, func(c *Config) {
		c.TTL = time.Hour
		c.OnTransition = func(tr Transition) {
			if tr.Event == string(evFailed) && tries.Add(1) == 8 {
				close(done) // pauses of 2, 4, … 128 ms, if there are any
			}
		}
	})
	must(t, os.MkdirAll(filepath.Join(leasename.Temp(p, o.a.claim.InstanceID), "x"), 0o700))
	start := time.Now()
	must(t, first.Release())
	<-done
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("eight attempts in %v", took)
	}
	must(t, o.Release())
}

// A path that is no lease's is left as it is.
func TestRevokeNothing(t *testing.T) {
	p := leasePath(t)
	if was, err := Revoke(t.Context(), p); err != nil || was.InstanceID != "" {
		t.Errorf("%+v, %v", was, err)
	}
	if left := contents(t, p); left != "" {
		t.Error(left)
	}
}

// The end of the caller's patience ends the waiting; the lease stays revoked.
func TestRevokeEnds(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	h := plant(t, p, nil)
	liveOwner(t, p, h.InstanceID)
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

// A hung owner's lease is acquired when it expires, as its record says, and not at the
// next poll.
func TestStandbyTakesAFileAtItsExpiry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		liveOwner(t, p, plant(t, p, nil).InstanceID)
		start := time.Now()
		time.Sleep(333 * time.Millisecond)
		o := joinFile(t, p, standby)
		<-o.Elected()
		if took := time.Since(start); took != time.Minute {
			t.Errorf("elected %v after the last heartbeat, with a TTL of a minute", took)
		}
	})
}

// An instance that is acquiring is seen with its record, or not at all.
func TestLookWaitsForARecordInTheMaking(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leasePath(t)
		const id = "01234567-89ab-cdef-0123-456789abcdef"
		liveOwner(t, p, id)
		time.AfterFunc(time.Millisecond, func() {
			plant(t, p, func(h *diskHead, _ *diskTail) { h.InstanceID = id })
		})
		s, err := newFileStore(p)
		must(t, err)
		if v, err := s.Look(t.Context()); err != nil || v.Holder.InstanceID != id || v.Holder.Epoch != 7 {
			t.Errorf("%+v, %v", v, err)
		}
	})
}
