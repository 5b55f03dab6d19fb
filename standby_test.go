package owner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Standing by, on simulated time. The tests' TTL makes the slow poll a second.

const poll = time.Second

func standby(c *Config) { c.Standby = true }

// standing returns an owner and a standby.
func standing(t *testing.T, s *fakeStore, change ...func(*Config)) (first, second *Owner) {
	t.Helper()
	first = join(t, t.Context(), s)
	second = join(t, t.Context(), s, append(change, standby)...)
	if second.IsOwner() || closed(second.Elected()) || closed(second.Done()) {
		t.Fatalf("a standby: %v", second.State())
	}
	return first, second
}

func TestStandbyTakesOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFakeStore(), &moves{}
		first, second := standing(t, s, func(c *Config) { c.OnTransition, c.Endpoint = m.add, "unix:/second" })
		time.Sleep(10*time.Second + 333*time.Millisecond) // long after a poll, and long before the next
		if second.State() != StateFollower || second.Endpoint() != "unix:/run/x.sock" || second.Epoch() != 1 {
			t.Errorf("follows %s at %q", second.State(), second.Endpoint())
		}
		start := time.Now()
		must(t, first.Release())
		<-second.Elected()
		if d := time.Since(start); d > minPollGap {
			t.Errorf("took %v", d)
		}
		if !second.IsOwner() || second.Epoch() != 2 || second.Endpoint() != "unix:/second" || second.Check() != nil {
			t.Errorf("elected, but %v", second.Check())
		}
		time.Sleep(10 * interval)
		synctest.Wait()
		if !second.IsOwner() {
			t.Errorf("does not renew: %v", second.LostErr())
		}
		must(t, second.Release())
		<-second.Done()
		<-first.Done()
		m.check(t)
		if !strings.HasPrefix(m.events(), "acquire refused acquire acquired renew renewed ") {
			t.Errorf("events: %s", m.events())
		}
		synctest.Wait()
		if n := s.watched(); n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
	})
}

// Without a single hint, the slow poll finds a free lease.
func TestStandbyWithoutHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		_, second := standing(t, s)
		time.Sleep(time.Minute + poll/3)
		start := time.Now()
		s.die(false)
		<-second.Elected()
		if d := time.Since(start); d > poll {
			t.Errorf("took %v", d)
		}
		must(t, second.Release())
	})
}

// A hung owner's lease is acquired when it expires: not a moment before, and no poll
// after.
func TestStandbyAtTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		answer := func() {}
		defer func() { answer() }()
		s.onRenew, answer = hang()
		start := time.Now()
		first, second := standing(t, s)
		s.mu.Lock()
		s.expires = ttl + 777*time.Microsecond
		s.mu.Unlock()
		<-second.Elected()
		if d := time.Since(start); d != ttl+777*time.Microsecond {
			t.Errorf("elected %v after the last renewal, want the lease's end", d)
		}
		if !closed(first.Lost()) || first.IsOwner() {
			t.Error("two owners")
		}
		answer()
		must(t, second.Release())
	})
}

// A follower sees successive owners, each in one piece.
func TestStandbyFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		f := join(t, t.Context(), neverWins{s}, standby)
		for i := range 5 {
			must(t, first.Release())
			first = join(t, t.Context(), s, func(c *Config) { c.Endpoint = fmt.Sprint("unix:/", i) })
			time.Sleep(50 * time.Millisecond)
			r := f.Holder()
			if r.InstanceID != first.InstanceID() || r.Epoch != first.Epoch() || f.Endpoint() != first.Endpoint() || f.Epoch() != r.Epoch || f.InstanceID() != r.InstanceID {
				t.Errorf("follows %+v, the owner is %+v", r, first.Holder())
			}
		}
		must(t, f.Release(), first.Release())
	})
}

type neverWins struct{ *fakeStore }

func (s neverWins) Acquire(context.Context, Record) (Acquisition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Acquisition{Holder: s.holder}, nil
}

func TestStandbyContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first, second := standing(t, s)
		if ctx := second.Context(); context.Cause(ctx) != ErrNotOwner || !errors.Is(second.Check(), ErrNotOwner) {
			t.Errorf("a follower's context: %v", context.Cause(ctx))
		}
		must(t, first.Release())
		<-second.Elected()
		ctx := second.Context()
		if ctx.Err() != nil {
			t.Errorf("an owner's context: %v", context.Cause(ctx))
		}
		s.set(&s.onRenew, func(context.Context) error { return ErrTakenOver })
		<-second.Lost()
		if !errors.Is(context.Cause(ctx), ErrTakenOver) {
			t.Errorf("after the loss: %v", context.Cause(ctx))
		}
		<-second.Done()
		s.die(true)
		time.Sleep(ttl)
		if second.State() != StateLost || second.IsOwner() || !s.free() {
			t.Error("came back from a loss")
		}
	})
}

func TestStandbyEnds(t *testing.T) {
	cause := errors.New("shutting down")
	for _, tc := range []struct {
		name  string
		end   func(o *Owner, cancel context.CancelCauseFunc)
		state State
		check error
	}{
		{"released", func(o *Owner, _ context.CancelCauseFunc) { must(t, o.Release()) }, StateReleased, ErrReleased},
		{"its context ended", func(_ *Owner, cancel context.CancelCauseFunc) { cancel(cause) }, StateFollower, ErrNotOwner},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, m := newFakeStore(), &moves{}
				first := join(t, t.Context(), s)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				o := join(t, ctx, s, standby, func(c *Config) { c.OnTransition = m.add })
				time.Sleep(5 * time.Second)
				tc.end(o, cancel)
				<-o.Done()
				synctest.Wait()
				if n := s.watched(); n != 1 { // the owner's
					t.Errorf("%d subscriptions are left", n)
				}
				must(t, first.Release(), o.Release(), o.Release())
				time.Sleep(time.Minute)
				if o.State() != tc.state || !errors.Is(o.Check(), tc.check) || closed(o.Elected()) || closed(o.Lost()) || !s.free() {
					t.Errorf("state %s, %v", o.State(), o.Check())
				}
				if r := o.Holder(); r.InstanceID != first.InstanceID() || r.Released || tc.state == StateReleased && o.Endpoint() != "" {
					t.Errorf("followed %+v at %q", r, o.Endpoint())
				}
				m.check(t)
			})
		})
	}
}

// A release meets an acquisition that is under way. What that still wins is given
// back; the release waits for it, but not for ever.
func TestReleaseWhileAcquiring(t *testing.T) {
	for _, tc := range []struct {
		name    string
		takes   time.Duration // the acquisition, from the release on
		returns time.Duration // the release
		err     error
	}{
		{"it wins", time.Second, time.Second, nil},
		{"it hangs", time.Hour, fence - time.Second, errReleaseHangs},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, m := newFakeStore(), &moves{}
				first, second := standing(t, s, func(c *Config) { c.OnTransition = m.add })
				s.set(&s.onAcquire, func(context.Context) error { time.Sleep(time.Second + tc.takes); return nil })
				must(t, first.Release())
				time.Sleep(time.Second)
				if second.State() != StateAcquiring {
					t.Fatalf("state %s", second.State())
				}
				start := time.Now()
				if err := second.Release(); !errors.Is(err, tc.err) || time.Since(start).Round(10*time.Millisecond) != tc.returns {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				<-second.Done()
				if closed(second.Elected()) || second.State() != StateReleased {
					t.Errorf("state %s", second.State())
				}
				time.Sleep(2 * time.Hour)
				if !s.free() || s.epoch != 2 {
					t.Errorf("what was won was not given back: epoch %d", s.epoch)
				}
				m.check(t)
			})
		})
	}
}

// Nothing is better for a follower than to wait for an answer. One that comes too
// late to be of use is given back, and it tries again.
func TestStandbyAcquiresSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFakeStore(), &moves{}
		first, second := standing(t, s, func(c *Config) { c.OnTransition = m.add })
		slow := true
		s.set(&s.onAcquire, func(context.Context) error {
			if slow {
				slow = false
				time.Sleep(3 * ttl)
			}
			return nil
		})
		must(t, first.Release())
		<-second.Elected()
		if !second.IsOwner() || s.epoch != 3 {
			t.Errorf("epoch %d, %v", s.epoch, second.Check())
		}
		must(t, second.Release())
		<-second.Done()
		m.check(t)
		if !strings.HasPrefix(m.events(), "acquire refused acquire too_late acquire acquired ") {
			t.Errorf("events: %s", m.events())
		}
	})
}

// A failed operation is tried again, ever more slowly, and is reported once.
func TestStandbyInTrouble(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fail  func(s *fakeStore, h hook)
		told  string
		often int // how often that may be reported
	}{
		{"reads fail", func(s *fakeStore, h hook) { s.set(&s.onLook, h) }, "cannot read the lease", 1},
		{"acquisitions fail", func(s *fakeStore, h hook) { s.set(&s.onAcquire, h) }, "event=failed", 70},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore()
				var b strings.Builder
				first, second := standing(t, s, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&b, nil)) })
				var calls atomic.Int32
				tc.fail(s, func(context.Context) error { calls.Add(1); return errors.New("EMFILE") })
				time.Sleep(poll)
				must(t, first.Release())
				time.Sleep(time.Minute)
				if n := calls.Load(); n < 55 || n > 75 {
					t.Errorf("%d calls in a minute", n)
				}
				if closed(second.Elected()) || second.State() != StateFollower {
					t.Errorf("state %s", second.State())
				}
				if err := second.Check(); !errors.Is(err, ErrNotOwner) || !strings.Contains(err.Error(), "EMFILE") {
					t.Errorf("Check: %v", err)
				}
				tc.fail(s, nil)
				<-second.Elected()
				must(t, second.Release())
				<-second.Done()
				if n := strings.Count(b.String(), tc.told); n < 1 || n > tc.often || !strings.Contains(b.String(), "EMFILE") {
					t.Errorf("reported %d times:\n%s", n, b.String())
				}
			})
		})
	}
}

func TestHundredStandBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		all := make([]*Owner, 100)
		for i := range all {
			all[i] = join(t, t.Context(), s, standby)
		}
		time.Sleep(time.Minute)
		s.mu.Lock()
		before := s.looks
		s.mu.Unlock()
		must(t, first.Release())
		time.Sleep(poll)
		synctest.Wait()
		var won *Owner
		for _, o := range all {
			if o.IsOwner() && won != nil {
				t.Fatal("two owners")
			} else if o.IsOwner() {
				won = o
			}
		}
		if won == nil {
			t.Fatal("none owns")
		}
		for _, o := range all {
			if o.InstanceID() != won.InstanceID() || o.Epoch() != won.Epoch() {
				t.Errorf("follows %s, and %s owns", o.InstanceID(), won.InstanceID())
			}
		}
		s.mu.Lock()
		if n := s.looks - before; n > 100*15 {
			t.Errorf("%d reads for one change of owner", n)
		}
		s.mu.Unlock()
		for _, o := range all {
			if o != won {
				must(t, o.Release())
			}
		}
		must(t, won.Release())
	})
}

// Who the owner is and where it is come in one piece.
func TestFollowsInOnePiece(t *testing.T) {
	s := newFakeStore()
	owner := join(t, context.Background(), s, endpoint("1"))
	f := join(t, context.Background(), neverWins{s}, standby)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 2; i < 200; i++ { // the fake's epochs count the owners
			_ = owner.Release()
			owner = join(t, context.Background(), s, endpoint(fmt.Sprint(i)))
			for f.Epoch() != uint64(i) { // the test's time limit ends this
				time.Sleep(50 * time.Microsecond)
			}
		}
	}()
	for !closed(done) {
		if r := f.Holder(); r.InstanceID != "" && r.Meta[EndpointMetaKey] != fmt.Sprint(r.Epoch) {
			t.Errorf("epoch %d at %s", r.Epoch, r.Meta[EndpointMetaKey])
		}
	}
	must(t, f.Release(), owner.Release())
}

// A lease that seems free, and is not, is tried ever more slowly.
func TestStandbyBeforeALeaseThatOnlyLooksFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		second := join(t, t.Context(), looksFree{s}, standby)
		var tries atomic.Int32
		s.set(&s.onAcquire, func(context.Context) error { tries.Add(1); return nil })
		time.Sleep(time.Minute)
		if n := tries.Load(); n < 55 || n > 75 {
			t.Errorf("%d tries in a minute", n)
		}
		must(t, second.Release(), first.Release())
	})
}

type looksFree struct{ *fakeStore }

func (looksFree) Look(context.Context) (View, error) { return View{}, nil }

// What is long past is no outcome of a release.
func TestReleaseOfAFollowerForgetsOldErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first, second := standing(t, s)
		s.set(&s.onAcquire, func(context.Context) error { return errors.New("EIO") })
		must(t, first.Release())
		time.Sleep(10 * time.Second)
		hung, answer := hang()
		s.set(&s.onLook, hung)
		time.Sleep(2 * poll)
		if err := second.Release(); err != nil {
			t.Error(err)
		}
		answer()
	})
}

// A win that came too late makes no owner, not in the follower's own view either; and the
// next attempt is another instance.
func TestTooLateIsNoOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first, second := standing(t, s, endpoint("unix:/second"))
		s.set(&s.onAcquire, func(context.Context) error {
			s.set(&s.onAcquire, nil)
			time.Sleep(3 * ttl)
			return nil
		})
		must(t, first.Release())
		time.Sleep(ttl)
		hung, answer := hang()
		s.set(&s.onRelease, hung) // the undoing takes a while
		time.Sleep(2*ttl + 10*minPollGap)
		s.mu.Lock()
		late := s.holder.InstanceID
		s.mu.Unlock()
		if second.State() != StateFollower || second.Endpoint() == "unix:/second" || second.InstanceID() == late {
			t.Errorf("%s, and the owner is at %q", second.State(), second.Endpoint())
		}
		answer()
		<-second.Elected()
		if second.InstanceID() == late {
			t.Error("an instance has owned twice")
		}
		must(t, second.Release())
	})
}

func (unwatchable) Watch(Record, func()) (func(), error) { return nil, errors.ErrUnsupported }
