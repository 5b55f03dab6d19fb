package owner

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errShutdown = errors.New("shutting down")

func config(s Store) Config { return Config{Store: s, TTL: ttl} }

func TestCampaign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		time.AfterFunc(time.Minute, func() { _ = first.Release() })
		start := time.Now()
		o, err := Campaign(t.Context(), config(s))
		must(t, err)
		if d := time.Since(start); d > time.Minute+minPollGap || !o.IsOwner() || !closed(o.Elected()) {
			t.Errorf("after %v: %v", d, o.Check())
		}
		must(t, o.Release())
	})
}

// Each waiter gives up by itself; the next one still wins.
func TestCampaignEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(errShutdown) })
		o, err := Campaign(ctx, config(s))
		if !errors.Is(err, errShutdown) || o == nil || o.Holder().InstanceID != first.InstanceID() {
			t.Errorf("%v, %v", o, err)
		}
		<-o.Done()
		time.AfterFunc(time.Second, func() { _ = first.Release() })
		next, err := Campaign(t.Context(), config(s))
		must(t, err)
		if o.IsOwner() || !next.IsOwner() {
			t.Error("the wrong one owns")
		}
		must(t, next.Release())
	})
}

func TestCampaignFails(t *testing.T) {
	if _, err := Campaign(t.Context(), Config{LeasePath: "x"}); !errors.Is(err, ErrInvalidConfig) {
		t.Error(err)
	}
	if _, err := Campaign(t.Context(), Config{LeasePath: filepath.Join(t.TempDir(), "no", "folder"), TTL: ttl}); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Error(err)
	}
}

// It wins at the moment at which its context ends: it owns, or none does.
func TestCampaignEndsAsItWins(t *testing.T) {
	ended := 0
	for i := 0; i < 20_000 && ended < 5; i++ {
		ctx, cancel := context.WithCancel(context.Background())
		s, cfg := newFakeStore(), Config{TTL: ttl}
		cfg.Store, cfg.OnTransition = s, func(tr Transition) {
			if tr.To == StateOwner {
				cancel()
			}
		}
		o, err := Campaign(ctx, cfg)
		if err != nil {
			ended++
			if !errors.Is(err, context.Canceled) || o.IsOwner() || !s.free() {
				t.Fatalf("%v, and the lease is still owned", err)
			}
		}
		must(t, o.Release())
		<-o.Done()
		cancel()
	}
	t.Logf("%d contexts have ended at that moment", ended)
}

// An ownership that is over before the campaign has noticed was one all the same: Run
// campaigns again then.
func TestCampaignWonAndLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.onRenew = func(context.Context) error { return ErrRevoked }
		cfg := config(s)
		o, err := Join(t.Context(), cfg)
		must(t, err)
		<-o.Done()
		for range 50 {
			if err := cfg.awaitElection(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(ttl)
	})
}

// The follower of a campaign that has ended still names the owner.
func TestCampaignNamesTheOwner(t *testing.T) {
	s := newFakeStore()
	first := join(t, context.Background(), s)
	for range 200 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		o, err := Campaign(ctx, config(s))
		cancel()
		if err == nil || o != nil && o.Holder().InstanceID != first.InstanceID() {
			t.Fatalf("%v, %+v", err, o.Holder())
		}
		if o != nil {
			<-o.Done()
		}
	}
	must(t, first.Release())
}

// A passing error does not end a campaign: an acquisition that hangs, as when another
// process that holds the guard is stopped.
func TestCampaignOutlastsAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		hung, answer := hang()
		s.onAcquire = hung
		time.AfterFunc(time.Minute, answer)
		o, err := Campaign(t.Context(), config(s))
		must(t, err)
		must(t, o.Release())
	})
}

// world checks what Run promises of work, whatever happens.
type world struct {
	t       *testing.T
	working atomic.Int32
	calls   int
}

// work is w as a function that also checks that it is called alone, by an owner.
func (w *world) work(f func(ctx context.Context, o *Owner) error) func(context.Context, *Owner) error {
	return func(ctx context.Context, o *Owner) error {
		w.calls++
		if w.working.Add(1) != 1 {
			w.t.Error("work runs twice at once")
		}
		defer w.working.Add(-1)
		if !o.IsOwner() || ctx.Err() != nil {
			w.t.Errorf("work was begun without the lease: %v, %v", o.Check(), context.Cause(ctx))
		}
		return f(ctx, o)
	}
}

func TestRunReturnsWhatWorkReturns(t *testing.T) {
	boom := errors.New("boom")
	for _, want := range []error{nil, boom} {
		synctest.Test(t, func(t *testing.T) {
			s, w := newFakeStore(), &world{t: t}
			if err := Run(t.Context(), config(s), w.work(func(context.Context, *Owner) error { return want })); err != want {
				t.Errorf("%v, want %v", err, want)
			}
			if !s.free() || w.calls != 1 {
				t.Errorf("free %v, %d calls", s.free(), w.calls)
			}
		})
	}
}

// The lease is kept, and renewed, for as long as work takes to wind down.
func TestRunWindsDown(t *testing.T) {
	boom := errors.New("boom")
	for _, tc := range []struct{ returns, want error }{{nil, errShutdown}, {boom, boom}} {
		synctest.Test(t, func(t *testing.T) {
			s, w := newFakeStore(), &world{t: t}
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Minute, func() { cancel(errShutdown) })
			err := Run(ctx, config(s), w.work(func(ctx context.Context, o *Owner) error {
				<-ctx.Done()
				if context.Cause(ctx) != errShutdown {
					t.Errorf("ended by %v", context.Cause(ctx))
				}
				before, _ := s.counted()
				time.Sleep(10 * ttl)
				if after, _ := s.counted(); !o.IsOwner() || s.free() || after < before+10*3-1 {
					t.Errorf("the lease was not kept while work wound down: %v, %d renewals", o.Check(), after-before)
				}
				return tc.returns
			}))
			if err != tc.want || !s.free() {
				t.Errorf("%v, free %v", err, s.free())
			}
		})
	}
}

// work's context is like the caller's, deadline and all.
func TestRunDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := Run(ctx, config(newFakeStore()), func(ctx context.Context, _ *Owner) error {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("no deadline")
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
}

func TestRunEndsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(errShutdown) })
		if err := Run(ctx, config(s), func(context.Context, *Owner) error { t.Error("work"); return nil }); err != errShutdown {
			t.Error(err)
		}
		must(t, first.Release())
		time.Sleep(time.Minute)
		if !s.free() {
			t.Error("still a standby")
		}
	})
}

// A loss ends work's context. Run waits for work, and campaigns again.
func TestRunAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newFakeStore(), &world{t: t}
		start := time.Now()
		var epochs []uint64
		err := Run(t.Context(), config(s), w.work(func(ctx context.Context, o *Owner) error {
			epochs = append(epochs, o.Epoch())
			if len(epochs) == 3 {
				return nil
			}
			s.set(&s.onRenew, func(context.Context) error { return ErrRevoked })
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), ErrRevoked) || o.IsOwner() {
				t.Errorf("ended by %v", context.Cause(ctx))
			}
			s.set(&s.onRenew, nil)
			s.die(true)
			time.Sleep(time.Minute) // slow to wind down: no other Run may work meanwhile
			return errors.New("stopped in the middle")
		}))
		if err != nil || len(epochs) != 3 || epochs[2] <= epochs[1] || epochs[1] <= epochs[0] {
			t.Errorf("%v, epochs %v", err, epochs)
		}
		if d := time.Since(start); d > 3*time.Minute {
			t.Errorf("took %v", d)
		}
		time.Sleep(ttl)
	})
}

// The loss comes while work winds down after ctx's end: nothing begins anew.
func TestRunLosesWhileItWindsDown(t *testing.T) {
	boom := errors.New("boom")
	for _, tc := range []struct{ returns, want error }{{nil, errShutdown}, {boom, boom}} {
		t.Run(tc.want.Error(), func(t *testing.T) { runLosesWhileItWindsDown(t, tc.returns, tc.want) })
	}
}

func runLosesWhileItWindsDown(t *testing.T, returns, want error) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newFakeStore(), &world{t: t}
		ctx, cancel := context.WithCancelCause(t.Context())
		err := Run(ctx, config(s), w.work(func(ctx context.Context, o *Owner) error {
			cancel(errShutdown)
			<-ctx.Done()
			s.set(&s.onRenew, func(context.Context) error { return ErrTakenOver })
			<-o.Lost()
			return returns
		}))
		if err != want || w.calls != 1 {
			t.Errorf("%v, want %v; %d calls", err, want, w.calls)
		}
		time.Sleep(ttl)
	})
}

// Ownerships that end early come back ever more slowly; one that lasts is forgiven.
func TestRunPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newFakeStore(), &world{t: t}
		var pauses []time.Duration
		var lost time.Time
		err := Run(t.Context(), config(s), w.work(func(_ context.Context, o *Owner) error {
			if w.calls > 1 {
				pauses = append(pauses, time.Since(lost))
			}
			switch w.calls {
			case 13:
				return nil
			case 12:
				time.Sleep(ttl) // long enough to be forgiven
			}
			s.set(&s.onRenew, func(context.Context) error { return ErrRevoked })
			<-o.Lost()
			lost = time.Now()
			s.set(&s.onRenew, nil)
			s.die(true)
			return nil
		}))
		must(t, err)
		short := func(d time.Duration) bool { return d <= minPollGap }
		long := func(d time.Duration) bool { return d >= ttl/2 && d <= 3*ttl/2+minPollGap }
		if !short(pauses[0]) || pauses[1] > 2*retryPause(ttl) || !long(pauses[10]) || !short(pauses[11]) {
			t.Errorf("pauses: %v", pauses)
		}
		time.Sleep(ttl)
	})
}

// The first attempt's error is the caller's; later ones are tried again.
func TestRunFailsToJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newFakeStore(), &world{t: t}
		full := errors.New("no space left on device")
		s.onAcquire = func(context.Context) error { return full }
		if err := Run(t.Context(), config(s), w.work(nil)); !errors.Is(err, full) || w.calls != 0 {
			t.Errorf("%v, %d calls", err, w.calls)
		}
		s.onAcquire = nil
		must(t, Run(t.Context(), config(s), w.work(func(_ context.Context, o *Owner) error {
			if w.calls == 2 {
				return nil
			}
			s.set(&s.onRenew, func(context.Context) error { return full })
			s.set(&s.onAcquire, func(context.Context) error { return full })
			<-o.Lost()
			time.AfterFunc(time.Minute, func() {
				s.set(&s.onRenew, nil)
				s.set(&s.onAcquire, nil)
				s.die(true)
			})
			return nil
		})))
		time.Sleep(ttl)
	})
}

func TestRunReleasesWhenWorkPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		func() {
			defer func() {
				if p := recover(); p != "boom" || !s.free() {
					t.Errorf("panic %v, free %v", p, s.free())
				}
			}()
			_ = Run(t.Context(), config(s), func(context.Context, *Owner) error { panic("boom") })
			t.Error("the panic was swallowed")
		}()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = Run(t.Context(), config(s), func(context.Context, *Owner) error { runtime.Goexit(); return nil })
		}()
		<-done
		if !s.free() {
			t.Error("not released after Goexit")
		}
	})
}

// work may release the lease itself.
func TestRunAfterWorkHasReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newFakeStore(), &world{t: t}
		must(t, Run(t.Context(), config(s), w.work(func(_ context.Context, o *Owner) error { return o.Release() })))
		if w.calls != 1 {
			t.Errorf("%d calls", w.calls)
		}
	})
}

// Many that run the same work in turn: never two at once.
func TestRunTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := newFakeStore(), &world{t: t}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		for range 20 {
			go func() {
				ended <- Run(ctx, config(s), func(ctx context.Context, o *Owner) error {
					if w.working.Add(1) != 1 {
						t.Error("two work at once")
					}
					defer w.working.Add(-1)
					time.Sleep(time.Second)
					return nil
				})
			}()
		}
		for range 20 {
			must(t, <-ended)
		}
		cancel()
	})
}

// Work that waits for the lease it runs under would wait for ever.
func TestRunWithinRun(t *testing.T) {
	p := leasePath(t)
	cfg := Config{LeasePath: p, TTL: time.Minute}
	err := Run(t.Context(), cfg, func(ctx context.Context, _ *Owner) error {
		again := cfg
		store, err := FileStore(p)
		must(t, err)
		again.Store = store
		for _, c := range []Config{cfg, again} {
			if err := Run(ctx, c, func(context.Context, *Owner) error { return nil }); !errors.Is(err, ErrInvalidConfig) {
				t.Errorf("Run within Run: %v", err)
			}
		}
		return Run(ctx, Config{LeasePath: p + "2", TTL: time.Minute}, func(context.Context, *Owner) error { return nil })
	})
	if err != nil {
		t.Errorf("under another lease: %v", err)
	}
}
