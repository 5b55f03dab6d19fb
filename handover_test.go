package owner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// handingStore is a fakeStore that keeps requests to step down.
type handingStore struct {
	*fakeStore
	mute     bool // a request gives no hint
	forgets  bool // a free lease shows no request
	asked    string
	to       string
	requests int
}

func newHandingStore() *handingStore { return &handingStore{fakeStore: newFakeStore()} }

func (s *handingStore) RequestHandover(_ context.Context, holder, successor string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held() || s.holder.InstanceID != holder {
		return ErrNoHolder
	}
	s.asked, s.to = holder, successor
	s.requests++
	if !s.mute {
		s.hint()
	}
	return nil
}

func (s *handingStore) Look(ctx context.Context) (View, error) {
	view, err := s.fakeStore.Look(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.asked != "" && s.asked == s.holder.InstanceID && !(view.Free() && s.forgets) {
		view.HandoverRequested, view.Successor = true, s.to
	}
	return view, err
}

// request asks the owner of a store.
func request(tb testing.TB, s Store, successor string) {
	tb.Helper()
	must(tb, RequestHandover(context.Background(), Config{Store: s}, successor))
}

func TestHandoverRequested(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*handingStore)
		within time.Duration
	}{
		"with a hint":               {func(*handingStore) {}, 2 * minPollGap},
		"with hints that fail":      {func(s *handingStore) { s.mute, s.watchErr = true, errors.ErrUnsupported }, interval},
		"without a hint":            {func(s *handingStore) { s.mute = true }, askEvery * interval},
		"while the store hangs":     {func(s *handingStore) { s.set(&s.onLook, once(errShutdown)) }, interval + minPollGap},
		"while renewals fail twice": {func(s *handingStore) { s.set(&s.onRenew, once(errShutdown)) }, ttl / 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newHandingStore()
				o := join(t, t.Context(), s)
				before := o.HandoverRequested()
				time.Sleep(20*interval + 7*time.Millisecond)
				if closed(before) || closed(o.HandoverRequested()) {
					t.Fatal("asked by no request")
				}
				tc.change(s)
				if s.watchErr != nil { // it is noticed where the subscription begins
					must(t, o.Release())
					o = join(t, t.Context(), s)
					before = o.HandoverRequested()
				}
				start := time.Now()
				must(t, s.RequestHandover(t.Context(), o.InstanceID(), ""))
				<-o.HandoverRequested()
				if d := time.Since(start); d > tc.within {
					t.Errorf("took %v, want %v", d, tc.within)
				}
				synctest.Wait()
				if !closed(before) {
					t.Error("one who asked for the channel before does not learn of it")
				}
				time.Sleep(100 * ttl)
				if !o.IsOwner() {
					t.Errorf("it has cost the lease: %v", o.Check())
				}
				must(t, o.Release())
				<-o.Done()
				next := join(t, t.Context(), s)
				time.Sleep(20 * interval)
				if closed(next.HandoverRequested()) {
					t.Error("a request to another ownership counts")
				}
				must(t, next.Release())
			})
		})
	}
}

// once fails once.
func once(err error) hook {
	var done atomic.Bool
	return func(context.Context) error {
		if done.Swap(true) {
			return nil
		}
		return err
	}
}

// The work has the lease for as long as it takes to end, and nothing else runs meanwhile.
func TestRunStepsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHandingStore()
		ctx, cancel := context.WithCancelCause(t.Context())
		var works, running atomic.Int32
		var wg sync.WaitGroup
		const longest = 5 * ttl
		var winding atomic.Int64
		winding.Store(int64(longest))
		work := func(ctx context.Context, o *Owner) error {
			if running.Add(1) != 1 {
				t.Error("two work at once")
			}
			defer running.Add(-1)
			works.Add(1)
			<-ctx.Done()
			for end := time.Now().Add(time.Duration(winding.Load())); time.Now().Before(end); time.Sleep(interval / 7) {
				if !o.IsOwner() {
					t.Errorf("the lease is gone while the work winds down: %v", o.Check())
				}
			}
			if cause := context.Cause(ctx); cause != ErrHandover && cause != errShutdown {
				t.Errorf("ended by %v", cause)
			}
			return errors.New("what it says then does not count")
		}
		for range 3 {
			wg.Go(func() {
				if err := Run(ctx, Config{Store: s, TTL: ttl}, work); err == nil {
					t.Error("no error")
				}
			})
		}
		owners := map[string]bool{}
		for n := range 6 {
			time.Sleep(ttl)
			s.mu.Lock()
			id := s.holder.InstanceID
			s.mu.Unlock()
			if owners[id] {
				t.Fatalf("%s still owns", id)
			}
			owners[id] = true
			if got := int(works.Load()); got != n+1 {
				t.Fatalf("%d works at request %d", got, n)
			}
			request(t, s, "")
			time.Sleep(longest)
		}
		winding.Store(0)
		cancel(errShutdown)
		wg.Wait()
	})
}

// A work that ends before it is asked is done as ever.
func TestRunIsDoneWithoutARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHandingStore()
		for _, want := range []error{nil, errShutdown} {
			err := Run(t.Context(), Config{Store: s, TTL: ttl}, func(context.Context, *Owner) error { return want })
			if err != want {
				t.Errorf("%v, want %v", err, want)
			}
		}
		// With no standby, it comes back by itself.
		begun := 0
		err := Run(t.Context(), Config{Store: s, TTL: ttl}, func(ctx context.Context, _ *Owner) error {
			if begun++; begun == 2 {
				return errShutdown
			}
			request(t, s, "")
			<-ctx.Done()
			return nil
		})
		if err != errShutdown || begun != 2 {
			t.Errorf("%v after %d works", err, begun)
		}
	})
}

// The ending of the ownership wins over the request.
func TestRunLosesWhileItStepsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHandingStore()
		begun := 0
		err := Run(t.Context(), Config{Store: s, TTL: ttl}, func(ctx context.Context, o *Owner) error {
			if begun++; begun == 2 {
				return nil
			}
			request(t, s, "")
			<-ctx.Done()
			s.set(&s.onRenew, func(context.Context) error { return ErrRevoked })
			<-o.Lost()
			s.set(&s.onRenew, nil)
			return nil
		})
		if err != nil || begun != 2 {
			t.Errorf("%v after %d works", err, begun)
		}
	})
}

// The named standby owns at once; where it has gone, another one after its head start.
func TestNamedSuccessor(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		for _, gone := range []bool{false, true} {
			t.Run(fmt.Sprintf("forgets %v, gone %v", forgets, gone), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newHandingStore()
					s.forgets = forgets
					first := join(t, t.Context(), s)
					var standbys []*Owner
					for range 5 {
						standbys = append(standbys, join(t, t.Context(), s, standby))
					}
					named := standbys[3].StandbyID()
					if first.StandbyID() != "" || named == "" || named == standbys[0].StandbyID() {
						t.Fatalf("a standby's id: %q", named)
					}
					time.Sleep(time.Minute)
					request(t, s, named)
					<-first.HandoverRequested()
					time.Sleep(time.Second)
					if gone {
						must(t, standbys[3].Release())
					}
					start := time.Now()
					must(t, first.Release())
					var won *Owner
					for won == nil {
						time.Sleep(time.Millisecond)
						for _, o := range standbys {
							if o.IsOwner() {
								won = o
							}
						}
					}
					d := time.Since(start)
					switch {
					case gone && (d < longestHeadStart || d > longestHeadStart+longestAside+2*minPollGap):
						t.Errorf("owned after %v, want the head start of %v", d, longestHeadStart)
					case !gone && (won != standbys[3] || d > 2*minPollGap):
						t.Errorf("the named one owns: %v, after %v", won == standbys[3], d)
					case !gone && (won.InstanceID() != named || won.StandbyID() != ""):
						t.Errorf("owns as %s, and was named %s", won.InstanceID(), named)
					}
					// The next takeover is as any.
					for _, o := range standbys {
						if o != won {
							defer o.Release()
						}
					}
					time.Sleep(time.Minute)
					start = time.Now()
					must(t, won.Release())
					for s.free() {
						time.Sleep(time.Millisecond)
					}
					if d := time.Since(start); d > 2*minPollGap {
						t.Errorf("the next takeover took %v", d)
					}
				})
			})
		}
	}
}

func TestStandbyID(t *testing.T) {
	s := newFakeStore()
	first := join(t, t.Context(), s)
	follower := join(t, t.Context(), s)
	if first.StandbyID() != "" || follower.StandbyID() != "" {
		t.Errorf("%q, %q: neither is a standby", first.StandbyID(), follower.StandbyID())
	}
	must(t, first.Release())
}

// Each mistake is an error that says what to do, and costs no instance the lease.
func TestRequestHandoverRefuses(t *testing.T) {
	s := newHandingStore()
	free := newHandingStore()
	o := join(t, t.Context(), s)
	plain := newFakeStore()
	p := join(t, t.Context(), plain)
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errShutdown)
	for name, tc := range map[string]struct {
		ctx       context.Context
		cfg       Config
		successor string
		want      error
		says      string
	}{
		"no lease":                   {t.Context(), Config{}, "", ErrInvalidConfig, "path of the lease is empty"},
		"a free lease":               {t.Context(), Config{Store: free}, "", ErrNoHolder, "free"},
		"the owner itself":           {t.Context(), Config{Store: s}, o.InstanceID(), ErrInvalidConfig, "owns the lease already"},
		"no id":                      {t.Context(), Config{Store: s}, "worker-7", ErrInvalidConfig, "InstanceID of a standby"},
		"a path":                     {t.Context(), Config{Store: s}, "../../../etc/passwd", ErrInvalidConfig, "InstanceID of a standby"},
		"an id in capitals":          {t.Context(), Config{Store: s}, strings.ToUpper(uuid.NewString()), ErrInvalidConfig, "InstanceID of a standby"},
		"a store without":            {t.Context(), Config{Store: plain}, "", ErrInvalidConfig, "Revoke"},
		"an ended context":           {ended, Config{Store: s}, "", errShutdown, "shutting down"},
		"a folder that is not there": {t.Context(), Config{LeasePath: t.TempDir() + "/no/lease"}, "", fs.ErrNotExist, "folder must exist"},
	} {
		err := RequestHandover(tc.ctx, tc.cfg, tc.successor)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || !strings.HasPrefix(err.Error(), "owner: request a handover of") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.requests != 0 || !o.IsOwner() || !p.IsOwner() || closed(o.HandoverRequested()) {
		t.Errorf("%d requests left", s.requests)
	}
	must(t, o.Release(), p.Release())
}
