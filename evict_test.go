package owner

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A hangingStore is a lease whose owner can hang: expired, while its process still exists.
type hangingStore struct {
	*fakeStore
	exists atomic.Bool // the process of the holder
}

func newHangingStore() *hangingStore { return &hangingStore{fakeStore: newFakeStore()} }

// hang makes another instance the owner, which renews until that time, and hangs.
func (s *hangingStore) hang(id string, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.holder, s.expires = Record{InstanceID: id, PID: 7, Host: "h", Epoch: s.epoch}, s.Now()+after
	s.exists.Store(true)
}

func (s *hangingStore) acquireUnlessHung(ctx context.Context, claim Record) (Acquisition, *Status, error) {
	s.mu.Lock()
	expired := s.holder.InstanceID != "" && !s.holder.Released && !s.held()
	holder := s.holder
	s.mu.Unlock()
	if expired && s.exists.Load() {
		return Acquisition{}, &Status{Record: holder, Condition: Hung}, nil
	}
	acq, err := s.Acquire(ctx, claim)
	if acq.Lease != nil {
		s.exists.Store(false)
	}
	return acq, nil, err
}

func evictBy(f func(context.Context, Status) error) func(*Config) {
	return func(c *Config) { c.Evict = f }
}

func TestEvict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newHangingStore(), &moves{}
		s.hang("a", 10*time.Second)
		var called atomic.Int64
		o := join(t, t.Context(), s, standby, func(c *Config) { c.OnTransition = m.add }, evictBy(func(_ context.Context, st Status) error {
			called.Store(int64(s.Now()))
			if st.Record.InstanceID != "a" || st.Record.PID != 7 || st.Condition != Hung || st.Remaining != 0 {
				t.Errorf("called with %+v", st)
			}
			time.Sleep(time.Second)
			s.exists.Store(false)
			return nil
		}))
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		if at := called.Load(); at != 0 {
			t.Errorf("called at %v, before the lease has expired", time.Duration(at))
		}
		time.Sleep(500 * time.Millisecond)
		if o.State() != StateEvicting || o.IsOwner() || o.Holder().InstanceID != "a" || !errors.Is(context.Cause(o.Context()), ErrNotOwner) {
			t.Errorf("while Evict is under way: %v, %v", o.State(), o.Check())
		}
		<-o.Elected()
		if called, at := time.Duration(called.Load()), s.Now(); called != 10*time.Second || at > 11*time.Second+minPollGap {
			t.Errorf("called at %v, elected at %v", called, at)
		}
		must(t, o.Release())
		<-o.Done()
		m.check(t)
		if want := "acquire refused acquire hung evicted acquired release "; m.events() != want {
			t.Errorf("events: %s", m.events())
		}
	})
}

// Without Evict, a hung owner's lease is taken when it has expired; with it, a dead one's.
func TestEvictIsNotCalled(t *testing.T) {
	for _, tc := range []struct {
		name   string
		exists bool
		evict  func(context.Context, Status) error
	}{
		{"not set", true, nil},
		{"dead", false, func(context.Context, Status) error { panic("called for a dead owner") }},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newHangingStore()
			s.hang("a", time.Second)
			s.exists.Store(tc.exists)
			o := join(t, t.Context(), s, standby, evictBy(tc.evict))
			time.Sleep(time.Second)
			synctest.Wait()
			if !o.IsOwner() {
				t.Errorf("%s: %v", tc.name, o.Check())
			}
			must(t, o.Release())
			<-o.Done()
		})
	}
}

// A failure is told, and tried again, at the pace of the polls.
func TestEvictFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHangingStore()
		s.hang("a", 10*time.Second)
		refused := errors.New("not permitted")
		var calls []time.Duration
		o := join(t, t.Context(), s, standby, evictBy(func(context.Context, Status) error {
			if calls = append(calls, s.Now()); len(calls) < 5 {
				return refused
			}
			s.exists.Store(false)
			return nil
		}))
		time.Sleep(10*time.Second + poll/2)
		if err := o.Check(); !errors.Is(err, refused) || !errors.Is(err, ErrNotOwner) || !errors.Is(err, ErrUnavailable) {
			t.Errorf("a standby: %v", err)
		}
		<-o.Elected()
		for i := range calls[1:] {
			if d := calls[i+1] - calls[i]; d < poll || d > poll+poll/10 {
				t.Errorf("called again after %v", d)
			}
		}
		if len(calls) != 5 {
			t.Errorf("called %d times", len(calls))
		}
		must(t, o.Release())
		<-o.Done()
	})
}

// Join returns the failure; Campaign tries again.
func TestEvictFailsInJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHangingStore()
		s.hang("a", -1)
		refused := errors.New("not permitted")
		calls := 0
		cfg := Config{Store: s, TTL: ttl, Evict: func(context.Context, Status) error {
			if calls++; calls < 3 {
				return refused
			}
			s.exists.Store(false)
			return nil
		}}
		if o, err := Join(t.Context(), cfg); o != nil || !errors.Is(err, refused) || !errors.Is(err, ErrUnavailable) {
			t.Errorf("Join: %v", err)
		}
		o, err := Campaign(t.Context(), cfg)
		if err != nil || !o.IsOwner() || calls != 3 {
			t.Fatalf("Campaign: %v, after %d calls", err, calls)
		}
		must(t, o.Release())
		<-o.Done()
	})
}

// What Evict returns is not believed.
func TestEvictThatDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHangingStore()
		s.hang("a", -1)
		var calls atomic.Int64
		nothing := evictBy(func(context.Context, Status) error { calls.Add(1); return nil })
		cfg := Config{Store: s, TTL: ttl}
		nothing(&cfg)
		if _, err := Join(t.Context(), cfg); !errors.Is(err, errStillThere) || calls.Load() != 1 {
			t.Errorf("Join: %v, after %d calls", err, calls.Load())
		}
		s.hang("a", time.Second)
		o := join(t, t.Context(), s, standby, nothing)
		time.Sleep(time.Second + 10*poll + poll/2)
		if n := calls.Load(); o.IsOwner() || n < 10 || n > 14 {
			t.Errorf("%v, after %d calls", o.State(), n)
		}
		s.exists.Store(false)
		<-o.Elected()
		must(t, o.Release())
		<-o.Done()
	})
}

// Another owns by the time Evict returns; or that one hangs as well.
func TestEvictIsTooLate(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newHangingStore()
			s.hang("a", -1)
			var evicted []string
			cfg := Config{Store: s, TTL: ttl, Evict: func(_ context.Context, st Status) error {
				evicted = append(evicted, st.Record.InstanceID)
				s.exists.Store(false)
				switch {
				case len(evicted) > 1:
				case hangs:
					s.hang("b", -1)
				default:
					s.hang("b", time.Hour)
				}
				return nil
			}}
			o, err := Join(t.Context(), cfg)
			must(t, err)
			if o.IsOwner() != hangs || len(evicted) != 1+map[bool]int{true: 1}[hangs] {
				t.Errorf("evicted: %v; owns: %v", evicted, o.IsOwner())
			}
			if !hangs && o.InstanceID() != "b" {
				t.Errorf("follows %s", o.InstanceID())
			}
			must(t, o.Release())
			<-o.Done()
		})
	}
}

// An Evict that takes too long: its context ends, or it is left alone, and not called again
// before it has returned.
func TestEvictHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHangingStore()
		var returned time.Duration
		s.hang("a", -1)
		_, err := Join(t.Context(), Config{Store: s, TTL: ttl, SafetyMargin: ttl / 4, Evict: func(ctx context.Context, _ Status) error {
			<-ctx.Done()
			returned = s.Now()
			return ctx.Err()
		}})
		if !errors.Is(err, context.DeadlineExceeded) || returned != ttl-ttl/4 {
			t.Errorf("%v, returned at %v", err, returned)
		}

		s.hang("a", time.Second)
		start := s.Now() + time.Second
		var calls atomic.Int64
		goOn := make(chan struct{})
		o := join(t, t.Context(), s, standby, evictBy(func(context.Context, Status) error {
			calls.Add(1)
			<-goOn
			s.exists.Store(false)
			return errors.New("late")
		}))
		time.Sleep(start + ttl - s.Now() - time.Nanosecond)
		synctest.Wait()
		if o.State() != StateEvicting {
			t.Errorf("%v before a TTL is over", o.State())
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if o.State() != StateFollower || !errors.Is(o.Check(), errEvictHangs) {
			t.Errorf("after a TTL: %v, %v", o.State(), o.Check())
		}
		time.Sleep(10 * ttl)
		synctest.Wait() // an attempt may have begun in this moment
		if calls.Load() != 1 || !errors.Is(o.Check(), errEvictHangs) {
			t.Errorf("%d calls; %v", calls.Load(), o.Check())
		}
		close(goOn)
		<-o.Elected() // what it has done counts, late or not
		must(t, o.Release())
		<-o.Done()
	})
}

// Release and the end of the context do not wait for Evict, whose context they end.
func TestEvictIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ended := range []bool{false, true} {
			s := newHangingStore()
			s.hang("a", time.Second)
			over, goOn, returned := make(chan error, 1), make(chan struct{}), make(chan struct{})
			ctx, cancel := context.WithCancelCause(t.Context())
			o := join(t, ctx, s, standby, evictBy(func(ctx context.Context, _ Status) error {
				defer close(returned)
				<-ctx.Done()
				over <- context.Cause(ctx)
				<-goOn
				s.exists.Store(false)
				return nil
			}))
			time.Sleep(2 * time.Second)
			if o.State() != StateEvicting {
				t.Fatal(o.State())
			}
			want, start := ErrReleased, time.Now()
			if ended {
				want = errors.New("the end")
				cancel(want)
			} else {
				must(t, o.Release())
			}
			<-o.Done()
			if cause := <-over; cause != want || time.Since(start) != 0 {
				t.Errorf("after %v, and Evict's context has ended with %v", time.Since(start), cause)
			}
			close(goOn)
			<-returned
			synctest.Wait()
			if o.IsOwner() || closed(o.Elected()) {
				t.Error("it owns")
			}
			cancel(nil)
		}
	})
}

func TestEvictNeedsALeaseFile(t *testing.T) {
	cfg := Config{Store: newFakeStore(), TTL: ttl, Evict: KillHolder}
	if _, err := Join(t.Context(), cfg); !errors.Is(err, ErrInvalidConfig) {
		t.Error(err)
	}
	store, err := FileStore(leasePath(t))
	must(t, err)
	cfg.Store = store
	o, err := Join(t.Context(), cfg)
	if err != nil || !o.IsOwner() {
		t.Fatal(err)
	}
	must(t, o.Release())
	if err := KillHolder(t.Context(), Status{Condition: Hung}); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("a status of no lease: %v", err)
	}
}
