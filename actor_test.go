package owner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The actor's tests run on the bubble's clock: to the nanosecond, and in no time.

const (
	ttl      = 12 * time.Second
	interval = 4 * time.Second // the default, TTL/3
	margin   = 3 * time.Second // the default, TTL/4
	fence    = ttl - margin
)

func join(tb testing.TB, ctx context.Context, s Store, change ...func(*Config)) *Owner {
	tb.Helper()
	cfg := Config{Store: s, TTL: ttl, Endpoint: "unix:/run/x.sock"}
	for _, f := range change {
		f(&cfg)
	}
	o, err := Join(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

// at runs f when d has passed since the test's start, and everything that was due
// by then has happened.
func at(start time.Time, d time.Duration, f func()) {
	time.Sleep(time.Until(start.Add(d)))
	synctest.Wait()
	f()
}

func TestOwnerRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFakeStore(), &moves{}
		o := join(t, t.Context(), s, func(c *Config) { c.OnTransition = m.add })
		if !o.IsOwner() || o.Role() != RoleOwner || !closed(o.Elected()) || o.Check() != nil || o.Epoch() != 1 {
			t.Fatalf("not an owner after Join: %v", o.Check())
		}
		time.Sleep(100*interval + time.Second)
		synctest.Wait()
		if renewals, _ := s.counted(); renewals != 100 {
			t.Errorf("%d renewals in 100 intervals", renewals)
		}
		if !o.IsOwner() || o.Epoch() != 1 || closed(o.Lost()) {
			t.Errorf("ownership did not last: %v", o.Check())
		}
		if err := o.Release(); err != nil {
			t.Error(err)
		}
		<-o.Done()
		m.check(t)
		if want := "acquire acquired " + strings.Repeat("renew renewed ", 100) + "release "; m.events() != want {
			t.Errorf("events: %s", m.events())
		}
	})
}

func TestTransientErrorsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		fails := 0
		s.onRenew = func(context.Context) error {
			if fails++; fails%8 != 0 { // seven pauses of TTL/20 fit between a renewal and the fence
				return errors.New("no space left on device")
			}
			return nil
		}
		o := join(t, t.Context(), s)
		defer o.Release()
		time.Sleep(20 * ttl)
		synctest.Wait()
		if !o.IsOwner() || closed(o.Lost()) {
			t.Errorf("lost by errors that passed: %v", o.LostErr())
		}
	})
}

func TestLostAtTheFence(t *testing.T) {
	for name, renew := range map[string]func(context.Context) error{
		"failing": func(context.Context) error { return errors.New("I/O error") },
		"hanging": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := func() {}
				if renew == nil {
					renew, answer = hang()
				}
				defer answer()
				s := newFakeStore()
				s.onRenew = renew
				start := time.Now()
				o := join(t, t.Context(), s)
				at(start, fence-1, func() {
					if !o.IsOwner() || closed(o.Lost()) {
						t.Errorf("lost before the fence: %v", o.Check())
					}
				})
				at(start, fence, func() {
					if o.IsOwner() || !closed(o.Lost()) || !closed(o.Done()) || o.State() != StateLost {
						t.Error("not lost at the fence")
					}
					var lost *LostError
					if !errors.As(o.LostErr(), &lost) || !errors.Is(lost, ErrExpired) || lost.SinceRenewal != fence || lost.Epoch != 1 {
						t.Errorf("LostErr: %#v", o.LostErr())
					}
					if name == "failing" && (lost.Err == nil || !strings.Contains(lost.Error(), "I/O error")) {
						t.Errorf("does not name the last error: %v", lost)
					}
					if !errors.Is(context.Cause(o.Context()), ErrExpired) || !errors.Is(o.Check(), ErrExpired) {
						t.Errorf("cause %v, check %v", context.Cause(o.Context()), o.Check())
					}
				})
			})
		})
	}
}

// What a lost lease holds in this process must stay until the lease has expired: others
// take its end for a death, and would own within the safety margin.
func TestLostLeaseIsHeldUntilItRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.onRenew = func(context.Context) error { return ErrRevoked }
		start := time.Now()
		o := join(t, t.Context(), s)
		at(start, interval, func() {
			if !closed(o.Lost()) || !errors.Is(o.LostErr(), ErrRevoked) {
				t.Errorf("a definite loss is not noticed at once: %v", o.LostErr())
			}
		})
		at(start, ttl-1, func() {
			if _, releases := s.counted(); releases != 0 {
				t.Error("released before the lease has expired")
			}
		})
		at(start, ttl, func() {
			if _, releases := s.counted(); releases != 1 {
				t.Error("not released when the lease has expired")
			}
		})
	})
}

func TestLateAnswersChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		var answer func()
		s.onRenew, answer = hang()
		start := time.Now()
		o := join(t, t.Context(), s)
		at(start, ttl+time.Second, func() {
			if _, releases := s.counted(); releases != 0 {
				t.Error("two calls of the store at once")
			}
			answer()
		})
		at(start, ttl+2*time.Second, func() {
			if o.IsOwner() || o.State() != StateLost || !errors.Is(o.LostErr(), ErrExpired) {
				t.Errorf("came back: %v", o.State())
			}
			if renewals, releases := s.counted(); renewals != 1 || releases != 1 {
				t.Errorf("%d renewals, %d releases", renewals, releases)
			}
		})
	})
}

func TestIsOwnerAsksTheClock(t *testing.T) {
	// A process that was stopped: its goroutines have not run, its clock has.
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		var answer func()
		s.onRenew, answer = hang()
		defer answer()
		o := join(t, t.Context(), s)
		stopped := *o.a.snap.Load()
		time.Sleep(fence)
		synctest.Wait()
		o.a.snap.Store(&stopped) // as it was before anything noticed
		if o.IsOwner() || o.Role() != RoleFollower || !errors.Is(o.Check(), ErrExpired) {
			t.Errorf("state %s, and IsOwner believes it", o.State())
		}
	})
}

func TestContextEnd(t *testing.T) {
	cause := errors.New("shutting down")
	for _, tc := range []struct {
		name string
		end  time.Duration // when the context ends
		hang bool          // a renewal is under way then
	}{
		{"between renewals", interval / 2, false},
		{"during a renewal", interval + time.Second, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore()
				answer := func() {}
				if tc.hang {
					s.onRenew, answer = hang()
				}
				defer answer()
				ctx, cancel := context.WithCancelCause(t.Context())
				start := time.Now()
				o := join(t, ctx, s)
				at(start, tc.end, func() {
					cancel(cause)
					<-o.Done()
					if !o.IsOwner() || !errors.Is(context.Cause(o.Context()), cause) {
						t.Errorf("the ownership ended with the context: %v; cause %v", o.Check(), context.Cause(o.Context()))
					}
				})
				at(start, fence-1, func() {
					answer() // too late to count
					if !o.IsOwner() || closed(o.Lost()) {
						t.Error("lost before the fence")
					}
				})
				at(start, fence, func() {
					if o.IsOwner() || !closed(o.Lost()) || !errors.Is(o.LostErr(), ErrExpired) {
						t.Errorf("not lost at the fence: %v", o.LostErr())
					}
				})
				time.Sleep(margin)
			})
		})
	}
}

// The store's clock decides, not the timers: here it runs at half their speed.
func TestTimersAreHints(t *testing.T) {
	for _, ended := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore()
			s.slow = time.Second / 2
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			start := time.Now()
			s.onRenew = func(context.Context) error { return errors.New("I/O error") }
			o := join(t, ctx, s)
			if ended {
				cancel()
			}
			at(start, 2*fence-2*time.Second, func() {
				if !o.IsOwner() || closed(o.Lost()) {
					t.Error("a timer has ended the ownership before the clock")
				}
			})
			at(start, 2*fence, func() {
				if o.IsOwner() || !closed(o.Lost()) {
					t.Error("not lost at the fence")
				}
			})
			time.Sleep(2 * ttl)
		})
	}
}

// An actor that was held up after it has read the clock must not extend what a
// reader has found ended.
func TestNoWayBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		s.set(&s.onRenew, func(context.Context) error {
			synctest.Wait() // until the actor waits
			// A reader that is ahead of the actor's clock: the actor has read it, and
			// decides later.
			s.ahead.Store(int64(fence))
			if o.IsOwner() {
				t.Error("IsOwner after the fence")
			}
			s.ahead.Store(0)
			return nil
		})
		<-o.Lost()
		if o.IsOwner() || !errors.Is(o.LostErr(), ErrExpired) {
			t.Errorf("came back: %v", o.LostErr())
		}
		time.Sleep(ttl)
	})
}

func TestFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		defer o.Release()
		f := join(t, t.Context(), s, func(c *Config) { c.Endpoint = "elsewhere" })
		if f.IsOwner() || f.Role() != RoleFollower || f.State() != StateFollower || !errors.Is(f.Check(), ErrNotOwner) {
			t.Errorf("follower: %v", f.State())
		}
		if f.Endpoint() != "unix:/run/x.sock" || f.InstanceID() != o.InstanceID() || f.Epoch() != 1 || f.Holder().PID == 0 {
			t.Errorf("does not know the holder: %+v", f.Holder())
		}
		if !closed(f.Done()) || closed(f.Elected()) || closed(f.Lost()) || context.Cause(f.Context()) != ErrNotOwner {
			t.Error("a follower's channels")
		}
		if err := f.Release(); err != nil || f.State() != StateFollower || !o.IsOwner() {
			t.Errorf("a follower's Release: %v", err)
		}
		f.Holder().Meta[EndpointMetaKey] = "changed by the caller"
		if f.Endpoint() != "unix:/run/x.sock" {
			t.Error("the caller's map is the follower's")
		}
	})
}

func TestJoinFails(t *testing.T) {
	cause := errors.New("enough")
	for _, tc := range []struct {
		name    string
		acquire func(cancel context.CancelCauseFunc) (func(context.Context) error, func())
		want    error
		after   time.Duration
	}{
		{"the store's error", func(context.CancelCauseFunc) (func(context.Context) error, func()) {
			return func(context.Context) error { return ErrCorruptRecord }, func() {}
		}, ErrCorruptRecord, 0},
		{"the context ends while the store hangs", func(cancel context.CancelCauseFunc) (func(context.Context) error, func()) {
			time.AfterFunc(time.Second, func() { cancel(cause) })
			return hang()
		}, cause, time.Second},
		{"the store hangs", func(context.CancelCauseFunc) (func(context.Context) error, func()) { return hang() }, errNoAnswer, fence},
		{"the store is too slow", func(context.CancelCauseFunc) (func(context.Context) error, func()) {
			return func(context.Context) error { time.Sleep(fence); return nil }, func() {}
		}, nil, fence}, // at the same instant: too late, or no answer
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				acquire, answer := tc.acquire(cancel)
				s.onAcquire = acquire
				start := time.Now()
				o, err := Join(ctx, Config{Store: s, TTL: ttl})
				if o != nil || err == nil || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("got %v, %v; want %v", o, err, tc.want)
				}
				if d := time.Since(start); d != tc.after {
					t.Errorf("returned after %v, want %v", d, tc.after)
				}
				// A win that comes later is given back.
				answer()
				synctest.Wait()
				if !s.free() {
					t.Error("none's lease stays behind")
				}
			})
		})
	}
}

func TestJoinWithEndedContext(t *testing.T) {
	cause := errors.New("ended before")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	s := newFakeStore()
	if _, err := Join(ctx, Config{Store: s, TTL: ttl}); !errors.Is(err, cause) || s.epoch != 0 {
		t.Errorf("Join: %v, epoch %d", err, s.epoch)
	}
}

// Callbacks that block hold up neither the renewals nor the loss nor a release.
func TestBlockedCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFakeStore(), &moves{}
		block := make(chan struct{})
		start := time.Now()
		o := join(t, t.Context(), s, func(c *Config) {
			c.OnTransition = func(tr Transition) { <-block; m.add(tr) }
			c.Logger = slog.New(slog.DiscardHandler)
		})
		at(start, 1000*interval+1, func() {
			if !o.IsOwner() {
				t.Fatalf("a callback has cost the ownership: %v", o.LostErr())
			}
			if err := o.Release(); err != nil {
				t.Error(err)
			}
			if closed(o.Done()) {
				t.Error("Done before the callbacks have returned")
			}
			close(block)
			<-o.Done()
			if n := len(m.all); n != maxNotices+2 || m.all[n-1].To != StateReleased {
				t.Errorf("%d transitions kept of 2003", n)
			}
		})
	})
}

// One record for each transition, for programs to read.
func TestLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		s, m := newFakeStore(), &moves{}
		o := join(t, t.Context(), s, func(c *Config) {
			c.OnTransition = m.add
			c.Logger = slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		time.Sleep(interval + 1)
		s.set(&s.onRenew, func(context.Context) error { return errors.New("EIO") })
		<-o.Lost()
		<-o.Done()
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != len(m.all) {
			t.Fatalf("%d records of %d transitions", len(lines), len(m.all))
		}
		levels := map[event]string{evAcquired: "INFO", evRetry: "WARN", evExpire: "ERROR"}
		for i, line := range lines {
			var r struct {
				Level, Msg, Lease, Instance, From, To, Event, Reason, Holder, Err string

				Epoch        uint64
				SinceRenewal time.Duration `json:"since_renewal"`
			}
			dec := json.NewDecoder(strings.NewReader(strings.Replace(line, `"time":`, `"msg":`, 1)))
			dec.DisallowUnknownFields()
			must(t, dec.Decode(&r))
			is := m.all[i]
			if r.From != string(is.From) || r.To != string(is.To) || r.Event != is.Event || r.Msg != "lease "+r.To ||
				r.Reason != reason(is.From, event(is.Event)) || r.Epoch != is.Epoch || (r.Err == "") != (is.Err == nil) ||
				r.Lease != "a lease" || r.Instance != o.InstanceID() || r.Epoch != 0 && r.Holder != r.Instance {
				t.Errorf("%s of %v", line, is)
			}
			if want := cmp.Or(levels[event(r.Event)], "DEBUG"); r.Level != want {
				t.Errorf("level %s of %v, want %s", r.Level, is, want)
			}
			if r.To == "lost" && (r.SinceRenewal != fence || !strings.Contains(r.Err, "EIO")) {
				t.Errorf("says too little about the loss: %s", line)
			}
		}
		time.Sleep(margin)
	})
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q queue
		var got []int
		for i := range 100 {
			q.put(func() {
				got = append(got, i) // without a lock: one at a time
				if i%10 == 0 {
					runtime.Goexit() // as t.Fatal in a callback does
				}
			})
		}
		synctest.Wait()
		if len(got) != 100 || !slices.IsSorted(got) {
			t.Errorf("ran %v", got)
		}
	})
}
