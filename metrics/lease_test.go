package metrics_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/metrics"
	"github.com/ownerlease/owner/ownertest"
)

// With this TTL, a renewal is due every 4 s, and an ownership ends 9 s after the last. What
// begins at a multiple of 1/8 s is renewed then, and no sooner: see RenewInterval.
const (
	ttl      = 12 * time.Second
	interval = ttl / 3
	fence    = ttl - ttl/4
)

func join(t testing.TB, ctx context.Context, store owner.Store, options ...func(*owner.Config)) *owner.Owner {
	t.Helper()
	cfg := owner.Config{Store: store, TTL: ttl}
	for _, option := range options {
		option(&cfg)
	}
	o, err := owner.Join(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// campaign waits until the store has taken up the release after a loss, too.
func campaign(t testing.TB, store owner.Store) *owner.Owner {
	t.Helper()
	o, err := owner.Campaign(context.Background(), owner.Config{Store: store, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func standby(cfg *owner.Config) { cfg.Standby = true }

func sick(cfg *owner.Config) {
	cfg.Healthy = func(context.Context) error { return errors.New("stuck") }
}

// expect compares some series of the lease named gpu.
func expect(t testing.TB, l *metrics.Lease, want map[string]float64) {
	t.Helper()
	got := scrape(t, l)
	for name, v := range want {
		series := name + `{lease="gpu"}`
		if reason, ok := strings.CutPrefix(name, "lost_"); ok {
			series = `owner_losses_total{lease="gpu",reason="` + reason + `"}`
		}
		if value, ok := got[series]; !ok || value != v {
			t.Errorf("%s is %v (%v), want %v", series, value, ok, v)
		}
	}
}

// All that a lease exposes, before it was ever owned: so a first loss is an increase.
func TestLeaseAtFirst(t *testing.T) {
	const labels, loss = `{lease="gpu"}`, `owner_losses_total{lease="gpu",reason=`
	want := map[string]float64{
		"owner_is_owner" + labels: 0, "owner_epoch" + labels: 0, "owner_ownerships_total" + labels: 0,
		loss + `"expired"}`: 0, loss + `"taken_over"}`: 0, loss + `"revoked"}`: 0, loss + `"unhealthy"}`: 0,
		"owner_renewals_total" + labels: 0, "owner_renew_errors_total" + labels: 0,
		"owner_renew_seconds_count" + labels: 0, "owner_renew_seconds_sum" + labels: 0, "owner_renew_longest_seconds" + labels: 0,
	}
	l := metrics.NewLease("gpu")
	l.Observe(nil)
	if got := scrape(t, l); !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

const goldenLease = `# TYPE owner_epoch gauge
# HELP owner_epoch The highest fencing token of the ownerships that this process has had or followed.
owner_epoch{lease="gpu"} 1
# TYPE owner_fence_slack_seconds gauge
# UNIT owner_fence_slack_seconds seconds
# HELP owner_fence_slack_seconds The least time that was left before the ownership would have ended when a renewal was confirmed.
owner_fence_slack_seconds{lease="gpu"} 3.5
# TYPE owner_is_owner gauge
# HELP owner_is_owner Whether this process owns the lease at the time of the scrape.
owner_is_owner{lease="gpu"} 1
# TYPE owner_losses counter
# HELP owner_losses Ownerships that this process has lost, by reason.
owner_losses_total{lease="gpu",reason="expired"} 0
owner_losses_total{lease="gpu",reason="revoked"} 0
owner_losses_total{lease="gpu",reason="taken_over"} 0
owner_losses_total{lease="gpu",reason="unhealthy"} 0
# TYPE owner_ownerships counter
# HELP owner_ownerships How often this process has become the owner.
owner_ownerships_total{lease="gpu"} 1
# TYPE owner_renew_errors counter
# HELP owner_renew_errors Renewals that failed without ending the ownership.
owner_renew_errors_total{lease="gpu"} 0
# TYPE owner_renew_longest_seconds gauge
# UNIT owner_renew_longest_seconds seconds
# HELP owner_renew_longest_seconds How long the longest confirmed renewal took.
owner_renew_longest_seconds{lease="gpu"} 1.5
# TYPE owner_renew_seconds summary
# UNIT owner_renew_seconds seconds
# HELP owner_renew_seconds How long the confirmed renewals took.
owner_renew_seconds_count{lease="gpu"} 2
owner_renew_seconds_sum{lease="gpu"} 2
# TYPE owner_renewals counter
# HELP owner_renewals Renewals that were confirmed in time.
owner_renewals_total{lease="gpu"} 2
# EOF
`

// Two renewals, of 0.5 s and of 1.5 s: the second leaves fence - interval - 1.5 s.
func TestLeaseGolden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, l := ownertest.NewMemory(), metrics.NewLease("gpu")
		o := join(t, t.Context(), store)
		defer o.Release()
		l.Observe(o)
		store.Slow(500*time.Millisecond, ownertest.Renew)
		time.Sleep(interval + time.Second)
		store.Slow(1500*time.Millisecond, ownertest.Renew)
		time.Sleep(interval + time.Second)
		if got := request(http.MethodGet, "", l).Body.String(); got != goldenLease {
			t.Errorf("got\n%s\nwant\n%s", got, goldenLease)
		}
	})
}

// Each reason of a loss is counted once, when the loss is known, and stays counted when
// the Owner has been released and forgotten. The owner is another one at the end.
func TestLosses(t *testing.T) {
	for reason, c := range map[string]struct {
		lose    func(*ownertest.Memory)
		options []func(*owner.Config)
	}{
		"expired":    {lose: func(s *ownertest.Memory) { s.Fail(errors.New("disk full"), ownertest.Renew) }},
		"taken_over": {lose: func(s *ownertest.Memory) { s.TakeOver() }},
		"revoked":    {lose: func(s *ownertest.Memory) { s.Revoke() }},
		"unhealthy":  {lose: func(*ownertest.Memory) {}, options: []func(*owner.Config){sick}},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, l := ownertest.NewMemory(), metrics.NewLease("gpu")
				o := join(t, t.Context(), store, c.options...)
				l.Observe(o)
				l.Observe(o) // a mistake that does no harm while it owns
				want := map[string]float64{"owner_is_owner": 1, "owner_ownerships_total": 1, "owner_epoch": 1,
					"lost_expired": 0, "lost_taken_over": 0, "lost_revoked": 0, "lost_unhealthy": 0}
				expect(t, l, want)
				c.lose(store)
				<-o.Lost()
				want["owner_is_owner"], want["lost_"+reason] = 0, 1
				expect(t, l, want)
				_ = o.Release()
				<-o.Done()
				expect(t, l, want)
				time.Sleep(2 * ttl)
				store.Heal()
				next := join(t, t.Context(), store)
				defer next.Release()
				l.Observe(next)
				want["owner_is_owner"], want["owner_ownerships_total"], want["owner_epoch"] = 1, 2, float64(next.Epoch())
				expect(t, l, want)
			})
		})
	}
}

// A release is no loss.
func TestReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, l := ownertest.NewMemory(), metrics.NewLease("gpu")
		for range 3 {
			o := join(t, t.Context(), store)
			l.Observe(o)
			if err := o.Release(); err != nil {
				t.Error(err)
			}
		}
		expect(t, l, map[string]float64{"owner_is_owner": 0, "owner_ownerships_total": 3, "owner_epoch": 3,
			"lost_expired": 0, "lost_taken_over": 0, "lost_revoked": 0, "lost_unhealthy": 0})
	})
}

// Renewals of several ownerships add up; the least slack and the longest renewal are those
// of the worst, whether it is the first or the last.
func TestRenewalsAddUp(t *testing.T) {
	for _, slow := range [][2]time.Duration{{time.Second, 2 * time.Second}, {2 * time.Second, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			store, l := ownertest.NewMemory(), metrics.NewLease("gpu")
			for _, d := range slow {
				store.Slow(d, ownertest.Renew)
				o := join(t, t.Context(), store)
				l.Observe(o)
				time.Sleep(interval + d + time.Second)
				if err := o.Release(); err != nil {
					t.Error(err)
				}
			}
			idle := join(t, t.Context(), store) // has renewed nothing, which is no slack of 0
			l.Observe(idle)
			defer idle.Release()
			expect(t, l, map[string]float64{"owner_renewals_total": 2, "owner_renew_seconds_count": 2, "owner_renew_seconds_sum": 3,
				"owner_renew_longest_seconds": 2, "owner_fence_slack_seconds": (fence - interval - 2*time.Second).Seconds()})
		})
	}
}

// A renewal that fails, and is tried again, has less slack.
func TestRenewErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, l := ownertest.NewMemory(), metrics.NewLease("gpu")
		o := join(t, t.Context(), store)
		defer o.Release()
		l.Observe(o)
		store.Fail(errors.New("disk full"), ownertest.Renew)
		time.Sleep(interval + time.Second)
		store.Heal()
		time.Sleep(time.Second)
		s := o.Stats()
		if s.RenewErrors == 0 || s.Renewals != 1 || s.LeastSlack >= fence-interval {
			t.Fatalf("%+v", s)
		}
		expect(t, l, map[string]float64{"owner_renew_errors_total": float64(s.RenewErrors), "owner_renewals_total": 1,
			"owner_fence_slack_seconds": s.LeastSlack.Seconds(), "lost_expired": 0})
	})
}

// Join's context has ended, and Done is closed, but the ownership lasts until its
// deadline: it is shown until then, and its loss is counted.
func TestContextEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := metrics.NewLease("gpu")
		o := join(t, ctx, ownertest.NewMemory())
		l.Observe(o)
		cancel()
		<-o.Done()
		expect(t, l, map[string]float64{"owner_is_owner": 1, "lost_expired": 0})
		<-o.Lost()
		expect(t, l, map[string]float64{"owner_is_owner": 0, "lost_expired": 1, "owner_ownerships_total": 1})
	})
}

// A follower owns nothing, and shows whom it follows; a standby owns later.
func TestFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := ownertest.NewMemory()
		first := join(t, t.Context(), store)
		follower, waiting := metrics.NewLease("gpu"), metrics.NewLease("gpu")
		follower.Observe(join(t, t.Context(), store.Peer()))
		second := join(t, t.Context(), store.Peer(), standby)
		waiting.Observe(second)
		none := map[string]float64{"owner_is_owner": 0, "owner_ownerships_total": 0, "owner_epoch": 1}
		expect(t, follower, none)
		expect(t, waiting, none)
		if err := first.Release(); err != nil {
			t.Error(err)
		}
		<-second.Elected()
		synctest.Wait()
		expect(t, follower, none)
		expect(t, waiting, map[string]float64{"owner_is_owner": 1, "owner_ownerships_total": 1, "owner_epoch": 2})
		if err := second.Release(); err != nil {
			t.Error(err)
		}
		expect(t, waiting, map[string]float64{"owner_is_owner": 0, "owner_ownerships_total": 1, "owner_epoch": 2})
	})
}

// What was seen of the epoch stays, also where the lease has no owner any more.
func TestEpochStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, l := ownertest.NewMemory(), metrics.NewLease("gpu")
		first := join(t, t.Context(), store)
		peer := store.Peer()
		second := join(t, t.Context(), peer, standby)
		peer.Fail(errors.New("disk full"), ownertest.Acquire)
		l.Observe(first)
		l.Observe(second)
		if err := first.Release(); err != nil {
			t.Error(err)
		}
		time.Sleep(ttl)
		if second.Epoch() != 0 {
			t.Fatalf("the standby sees epoch %d", second.Epoch())
		}
		expect(t, l, map[string]float64{"owner_epoch": 1, "owner_is_owner": 0})
		_ = second.Release()
	})
}

// Run campaigns again after each loss; no counter ever falls meanwhile.
func TestRunUnderFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		store, l := ownertest.NewMemory(), metrics.NewLease("gpu")
		ended := make(chan error)
		go func() {
			ended <- owner.Run(ctx, owner.Config{Store: store, TTL: ttl}, func(ctx context.Context, o *owner.Owner) error {
				l.Observe(o)
				<-ctx.Done()
				return nil
			})
		}()
		faults := []func(){func() { store.TakeOver() }, func() { store.Hang() }, func() { store.Revoke() }, func() { store.Heal() }}
		last := map[string]float64{}
		for tick := range 1000 {
			time.Sleep(400 * time.Millisecond)
			if tick%75 == 74 {
				faults[tick/75%len(faults)]()
			}
			now := scrape(t, l)
			notLess(t, last, now)
			last = now
		}
		stop()
		<-ended
		if n := last[`owner_ownerships_total{lease="gpu"}`]; n < 5 || last[`owner_losses_total{lease="gpu",reason="taken_over"}`] < 2 {
			t.Errorf("too little has happened: %v", last)
		}
	})
}

// notLess checks all series but the gauges that may fall.
func notLess(t testing.TB, before, after map[string]float64) {
	t.Helper()
	for series, v := range before {
		fallen := after[series] < v
		switch {
		case strings.HasPrefix(series, "owner_is_owner"):
		case strings.HasPrefix(series, "owner_fence_slack"):
			fallen = after[series] > v // the least so far
			fallthrough
		default:
			if fallen {
				t.Fatalf("%s was %v, and is %v", series, v, after[series])
			}
		}
	}
}

// An Owner that has ended is forgotten: at the next scrape, or when the next one is
// observed, where nothing scrapes.
func TestOwnersAreForgotten(t *testing.T) {
	store := ownertest.NewMemory()
	l := metrics.NewLease("gpu")
	var gone []weak.Pointer[owner.Owner]
	for _, end := range []func(*owner.Owner){
		func(o *owner.Owner) { _ = o.Release() },
		func(o *owner.Owner) { store.Revoke(); <-o.Lost(); _ = o.Release() },
		func(o *owner.Owner) { _ = o.Release() },
	} {
		o := campaign(t, store)
		l.Observe(o)
		end(o)
		<-o.Done()
		gone = append(gone, weak.Make(o))
	}
	collected(t, gone[:2])
	scrape(t, l)
	collected(t, gone)
	expect(t, l, map[string]float64{"owner_ownerships_total": 3, "lost_revoked": 1})
}

func collected(t *testing.T, owners []weak.Pointer[owner.Owner]) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		runtime.GC()
		left := 0
		for _, o := range owners {
			if o.Value() != nil {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d Owners are still kept", left, len(owners))
		}
	}
}

// Ownerships come and go while several clients scrape.
func TestConcurrentScrapes(t *testing.T) {
	store, l := ownertest.NewMemory(), metrics.NewLease("gpu")
	handler := metrics.Handler(l)
	const ownerships, losses = 300, 100
	var scrapers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		scrapers.Go(func() {
			last := map[string]float64{}
			for over := false; !over; {
				select {
				case <-done:
					over = true
				case <-time.After(time.Millisecond):
				}
				now, err := parse(get(handler))
				if err != nil {
					t.Error(err)
					return
				}
				notLess(t, last, now)
				last = now
			}
		})
	}
	for i := range ownerships {
		o := campaign(t, store)
		observed := make(chan struct{})
		go func() { l.Observe(o); close(observed) }()
		if i%(ownerships/losses) == 0 {
			store.Revoke()
			<-o.Lost()
		}
		if rand.N(2) == 0 { // also an Owner that has ended already
			<-observed
		}
		_ = o.Release()
		<-observed
	}
	close(done)
	scrapers.Wait()
	expect(t, l, map[string]float64{"owner_is_owner": 0, "owner_ownerships_total": ownerships, "lost_revoked": losses, "owner_epoch": ownerships})
}

// The page on monitoring names all series, and no others.
func TestDocsNameTheMetrics(t *testing.T) {
	page := readDocs(t)
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`\bowner_[a-z_]+\b`).FindAllString(page, -1) {
		named[name] = true
	}
	exposed := map[string]bool{"owner_fence_slack_seconds": true} // after the first renewal
	for series := range scrape(t, metrics.NewLease("gpu")) {
		name, _, _ := strings.Cut(series, "{")
		exposed[name] = true
	}
	if !maps.Equal(named, exposed) {
		t.Errorf("docs/monitoring.md names\n%v\nexposed are\n%v", named, exposed)
	}
}
