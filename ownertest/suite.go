// Package ownertest helps to test what is built on package owner: a new store, by the
// suite that every store has to pass (TestStore), and a service's behaviour when it loses
// its lease, on a store in memory with fault injection (Memory).
package ownertest

import (
	"cmp"
	"sync"
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// TestStore tests whether a store keeps what owner.Store promises, and whether Owners
// on it do what package owner promises. newStore returns a store with a new lease, which
// was never owned, and cleans up with t.Cleanup. It is called for each of some two dozen
// subtests of t, most of which run at the same time: the suite takes about five TTLs, and
// at least two seconds.
//
// The contenders of a subtest share the store, unless Peer says how to have another for the
// same lease. The Meta of their records may hold anything that a Go string can be of valid
// UTF-8, the NUL included: a store that cannot keep it has to encode it.
//
// A slow machine does not fail a good store, unless it stops for many seconds. The suite
// does not test faults of servers and networks, nor what a suspend does to the clock:
// that is left to the store's own tests.
func TestStore(t *testing.T, newStore func(t *testing.T) owner.Store, opts ...Option) {
	s := suite{newStore: newStore, ttl: 200 * time.Millisecond}
	for _, o := range opts {
		o(&s)
	}
	s.patience = cmp.Or(s.patience, 30*time.Second+10*s.ttl)
	for name, f := range alone {
		s.run(t, name, f)
	}
	var wg sync.WaitGroup // and not t.Parallel, by which as many wait as there are processors
	for name, f := range together {
		wg.Go(func() { s.run(t, name, f) })
	}
	wg.Wait()
}

// Option changes how TestStore tests.
type Option func(*suite)

// TTL sets the TTL of the leases that the suite lets expire, by default 200 ms. The store
// must be able to keep it, and its double. (Leases that must not expire have a minute.)
func TTL(d time.Duration) Option { return func(s *suite) { s.ttl = d } }

// alone are the tests that check the whole process.
var alone = map[string]func(*check){
	"WatchLeavesNothing": watchLeavesNothing,
}

var together = map[string]func(*check){
	"Clock":              clock,
	"Acquire":            acquire,
	"Held":               held,
	"Release":            release,
	"Epochs":             epochs,
	"Race":               race,
	"RaceForAnExpired":   raceForAnExpired,
	"TTLOfTheHolder":     ttlOfTheHolder,
	"Renew":              renew,
	"RenewAfterTakeover": renewAfterTakeover,
	"ReleaseAfterLoss":   releaseAfterLoss,
	"ReleaseAfterExpiry": releaseAfterExpiry,
	"Look":               look,
	"EndedContexts":      endedContexts,
	"CancelledAcquire":   cancelledAcquire,
	"Hints":              hints,
	"Advertise":          advertise,
	"AdvertiseNoRenewal": advertiseIsNoRenewal,
	"AdvertiseAfterLoss": advertiseAfterLoss,
	"AdvertiseHints":     advertiseHints,
	"HandoverRequest":    handoverRequest,
	"HandoverOfAnother":  handoverOfAnother,
	"HandoverNoRenewal":  handoverIsNoRenewal,
	"HandoverRace":       handoverRace,
	"HandoverContext":    handoverWithEndedContext,
	"HandoverHints":      handoverHints,
	"RunStepsDown":       runStepsDown,
	"SharedHints":        sharedHints,
	"NoHintAfterStop":    noHintAfterStop,
	"OneOwner":           oneOwner,
	"Handover":           handover,
	"HungOwner":          hungOwner,
	"Run":                runTakesTurns,
	"WatchStore":         watchStore,
	"History":            wholeHistory,
	"Peers":              peers,
	"LostAnswer":         lostAnswer,
}

type suite struct {
	newStore func(t *testing.T) owner.Store
	ttl      time.Duration
	patience time.Duration // for what should take a moment, or a TTL

	peer        func(t *testing.T, s owner.Store) owner.Store // nil: not given
	loseAnswers func(t *testing.T, s owner.Store) (restore func())
	noHints     bool
}

func (s *suite) run(t *testing.T, name string, f func(*check)) {
	t.Run(name, func(t *testing.T) {
		c := &check{T: t, suite: s}
		c.made = s.newStore(t)
		store := &tracked{Store: c.made}
		c.store = store
		if s, ok := store.Store.(owner.HandoverStore); ok {
			c.store = &trackedHandover{store, s}
		}
		c.Cleanup(func() { c.settle(store) }) // the last but newStore's
		f(c)
	})
}
