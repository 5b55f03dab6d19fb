package metrics

import (
	"errors"
	"sync"

	"github.com/ownerlease/owner"
)

// Lease is the Source of one lease, as this process sees it. A process owns a lease by one
// [owner.Owner] after another; a Lease adds up what they count, and keeps none of them
// after its end.
//
// It exposes its metrics from the beginning, also before the process has owned the lease
// for the first time: what has not happened is 0. docs/monitoring.md lists them.
type Lease struct {
	name string

	mu   sync.Mutex
	live map[*owner.Owner]struct{}
	past totals // of the others
}

// NewLease returns the Source of a lease. Its metrics have the label lease with this name,
// which should be the same in all processes that share the lease, and another for every
// other lease that is monitored: for a lease file, the machine's name belongs to it.
func NewLease(name string) *Lease {
	return &Lease{name: name, live: map[*owner.Owner]struct{}{}}
}

// Observe begins to count what o does. It is called once for each Owner: first of all in
// the work that [owner.Run] calls, or after [owner.Join] or [owner.Campaign]. nil, which
// these return together with an error, is ignored.
func (l *Lease) Observe(o *owner.Owner) {
	if o == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fold() // so that no more than one Owner is kept where nothing scrapes
	l.live[o] = struct{}{}
}

// Collect implements Source.
func (l *Lease) Collect(add func(Sample)) {
	owning, t := l.sum()
	series := func(typ Type, name, help string, value float64) {
		add(Sample{Name: name, Type: typ, Help: help, Labels: map[string]string{"lease": l.name}, Value: value})
	}
	series(Gauge, "owner_is_owner", "Whether this process owns the lease at the time of the scrape.", float64(owning))
	series(Gauge, "owner_epoch", "The highest fencing token of the ownerships that this process has had or followed.", float64(t.epoch))
	series(Counter, "owner_ownerships", "How often this process has become the owner.", float64(t.ownerships))
	for i, r := range reasons {
		add(Sample{Name: "owner_losses", Type: Counter, Help: "Ownerships that this process has lost, by reason.",
			Labels: map[string]string{"lease": l.name, "reason": r.label}, Value: float64(t.losses[i])})
	}
	series(Counter, "owner_renewals", "Renewals that were confirmed in time.", float64(t.Renewals))
	series(Counter, "owner_renew_errors", "Renewals that failed without ending the ownership.", float64(t.RenewErrors))
	add(Sample{Name: "owner_renew_seconds", Type: Summary, Help: "How long the confirmed renewals took.",
		Labels: map[string]string{"lease": l.name}, Value: t.RenewTime.Seconds(), Count: t.Renewals})
	series(Gauge, "owner_renew_longest_seconds", "How long the longest confirmed renewal took.", t.LongestRenewal.Seconds())
	if t.Renewals > 0 { // 0 would look like the narrowest escape
		series(Gauge, "owner_fence_slack_seconds",
			"The least time that was left before the ownership would have ended when a renewal was confirmed.", t.LeastSlack.Seconds())
	}
}

// sum returns how many Owners own the lease at this moment, and what all have counted.
// More than one owner would be a violation of exclusion, which must not be hidden.
func (l *Lease) sum() (owning int, t totals) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fold()
	t = l.past
	for o := range l.live {
		if o.IsOwner() {
			owning++
		}
		t.add(o)
	}
	return owning, t
}

// fold forgets the Owners that will count nothing any more.
func (l *Lease) fold() {
	for o := range l.live {
		if final(o) {
			l.past.add(o)
			delete(l.live, o)
		}
	}
}

// final reports whether nothing of an Owner can change any more. Done alone does not say
// that: it is closed when Join's context has ended, and the ownership lasts, and can be
// lost.
func final(o *owner.Owner) bool {
	select {
	case <-o.Done():
	default:
		return false
	}
	s := o.State()
	return s != owner.StateOwner && s != owner.StateRenewing
}

// reasons are the values of the label reason.
var reasons = [...]struct {
	label string
	err   error
}{
	{"expired", owner.ErrExpired},
	{"taken_over", owner.ErrTakenOver},
	{"revoked", owner.ErrRevoked},
	{"unhealthy", owner.ErrUnhealthy},
}

// totals is what some Owners have counted.
type totals struct {
	owner.Stats
	ownerships uint64
	losses     [len(reasons)]uint64
	epoch      uint64
}

// add adds what an Owner has counted so far.
func (t *totals) add(o *owner.Owner) {
	select {
	case <-o.Elected():
		t.ownerships++
	default:
	}
	if lost := (*owner.LostError)(nil); errors.As(o.LostErr(), &lost) {
		for i, r := range reasons {
			if lost.Reason == r.err {
				t.losses[i]++
			}
		}
	}
	t.epoch = max(t.epoch, o.Epoch())
	t.addStats(o.Stats())
}

func (t *totals) addStats(s owner.Stats) {
	if s.Renewals > 0 && (t.Renewals == 0 || s.LeastSlack < t.LeastSlack) {
		t.LeastSlack = s.LeastSlack
	}
	t.Renewals += s.Renewals
	t.RenewErrors += s.RenewErrors
	t.RenewTime += s.RenewTime
	t.LongestRenewal = max(t.LongestRenewal, s.LongestRenewal)
}
