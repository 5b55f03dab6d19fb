package owner

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Releases, at every moment, on simulated time.

// Too late for a release: another process may own by now, and the caller gets an error.
func TestReleaseAfterTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		synctest.Wait()           // until the actor waits
		s.ahead.Store(int64(ttl)) // the process was stopped: the clock has moved, no timer has fired
		if err := o.Release(); err != nil {
			t.Error(err)
		}
		if !closed(o.Lost()) || !errors.Is(o.LostErr(), ErrExpired) || o.State() != StateLost {
			t.Errorf("state %s, LostErr %v", o.State(), o.LostErr())
		}
	})
}

// A renewal that has been issued is never overtaken by a release that comes at
// the same instant.
func TestReleaseComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		both := 0
		for range 500 {
			s := newFakeStore()
			o := join(t, t.Context(), s)
			s.set(&s.onRenew, func(context.Context) error {
				if _, releases := s.counted(); releases > 0 {
					t.Error("renewed after the release")
				}
				return nil
			})
			time.Sleep(interval)
			_ = o.Release()
			<-o.Done()
			synctest.Wait()
			if renewals, releases := s.counted(); renewals == 1 && releases == 1 {
				both++
			}
		}
		if both == 0 {
			t.Error("no release has met a renewal: the test shows nothing")
		}
	})
}

func TestReleaseAfterContextEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFakeStore(), &moves{}
		ctx, cancel := context.WithCancel(t.Context())
		o := join(t, ctx, s, func(c *Config) { c.OnTransition = m.add })
		cancel()
		<-o.Done()
		s.onRelease = func(ctx context.Context) error { return ctx.Err() } // no goroutine is left
		if err := o.Release(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * ttl)
		if closed(o.Lost()) || o.State() != StateReleased || !s.free() {
			t.Errorf("state %s, lost %v", o.State(), o.LostErr())
		}
		m.check(t)
	})
}

func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		s.set(&s.onRelease, func(context.Context) error {
			if o.IsOwner() {
				t.Error("still the owner while the lease is being released")
			}
			time.Sleep(time.Second)
			return nil
		})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := o.Release(); err != nil || !s.free() {
					t.Errorf("Release: %v", err)
				}
			})
		}
		wg.Wait()
		<-o.Done()
		if err := o.Release(); err != nil {
			t.Error(err)
		}
		if _, releases := s.counted(); releases != 1 {
			t.Errorf("%d releases", releases)
		}
		if closed(o.Lost()) || !errors.Is(o.Check(), ErrReleased) || context.Cause(o.Context()) != ErrReleased || o.Endpoint() != "" || !o.Holder().Released {
			t.Errorf("after the release: %v", o.Check())
		}
	})
}

func TestReleaseDuringRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFakeStore(), &moves{}
		s.onRenew = func(context.Context) error { time.Sleep(time.Second); return nil }
		var log strings.Builder
		start := time.Now()
		o := join(t, t.Context(), s, func(c *Config) {
			c.OnTransition = m.add
			c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		at(start, interval+time.Second/2, func() {
			if o.State() != StateRenewing {
				t.Fatalf("state %s", o.State())
			}
			if err := o.Release(); err != nil {
				t.Error(err)
			}
			if d := time.Since(start); d != interval+time.Second {
				t.Errorf("released after %v, want right after the renewal", d)
			}
			if renewals, releases := s.counted(); renewals != 1 || releases != 1 {
				t.Errorf("%d renewals, %d releases", renewals, releases)
			}
		})
		<-o.Done()
		m.check(t)
		if !strings.Contains(log.String(), `msg="late answer ignored" lease="a lease" count=1`) {
			t.Errorf("the renewal's answer is not accounted for:\n%s", log.String())
		}
	})
}

func TestReleaseIsBounded(t *testing.T) {
	for name, during := range map[string]func(*fakeStore) func(){
		"the release hangs":         func(s *fakeStore) func() { h, answer := hang(); s.set(&s.onRelease, h); return answer },
		"a renewal hangs before it": func(s *fakeStore) func() { h, answer := hang(); s.set(&s.onRenew, h); return answer },
		"after the context's end":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				start := time.Now()
				o := join(t, ctx, s)
				var answer func()
				if during == nil {
					cancel()
					<-o.Done()
					s.onRelease, answer = hang() // no goroutine is left
				} else {
					answer = during(s)
				}
				defer answer()
				at(start, interval+time.Second, func() {
					renewed := time.Duration(0)
					if name == "the release hangs" {
						renewed = interval
					}
					err := o.Release()
					if d := time.Since(start); d != renewed+ttl {
						t.Errorf("returned after %v; the lease expired after %v", d, renewed+ttl)
					}
					if !errors.Is(err, errReleaseHangs) || o.IsOwner() || closed(o.Lost()) {
						t.Errorf("Release: %v", err)
					}
					if again := o.Release(); again != err {
						t.Errorf("a second call returns %v", again)
					}
				})
			})
		})
	}
}

// After a loss, Release returns when the store has released the lease, or when that has
// expired: the process may end next.
func TestReleaseAfterALossWaits(t *testing.T) {
	for name, tc := range map[string]struct{ takes, want time.Duration }{
		"a store that answers": {3 * time.Millisecond, 3 * time.Millisecond},
		"a store that hangs":   {10 * ttl, ttl}, // from the renewal that counts
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore()
				o := join(t, t.Context(), s)
				s.set(&s.onRenew, func(context.Context) error { return ErrRevoked })
				s.set(&s.onRelease, func(context.Context) error { time.Sleep(tc.takes); return nil })
				joined := time.Now()
				<-o.Lost()
				lost := time.Now()
				_ = o.Release()
				want := lost.Add(tc.want)
				if tc.takes > ttl {
					want = joined.Add(tc.want)
				}
				if d := time.Since(want); d != 0 {
					t.Errorf("returned %v after the moment that was due", d)
				}
				time.Sleep(20 * ttl)
			})
		})
	}
}
