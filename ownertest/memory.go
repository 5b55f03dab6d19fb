package ownertest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner"
)

// Memory is a store that keeps a lease in memory, for tests of what is built on
// owner: of how a service behaves when it loses the lease, when the store is slow, or
// when another instance is the owner. Its methods can be called at any time, from any
// goroutine.
//
// Slow, Fail, Hang and Late inject a fault into the calls of some kinds, or of all kinds
// if none is named, until Heal or another fault. Calls that have begun before are not
// affected, and hints come whatever the faults are. TakeOver and Revoke take the lease
// away from its owner.
//
// In a bubble of testing/synctest, in which the Memory must have been made, time is
// the bubble's: a test of any TTL takes no time, and does not depend on the machine.
//
//	synctest.Test(t, func(t *testing.T) {
//		store := ownertest.NewMemory()
//		go service(t.Context(), owner.Config{Store: store, TTL: 30 * time.Second})
//		time.Sleep(time.Minute)     // it owns, and works
//		store.Hang(ownertest.Renew) // its disk hangs, its network is gone
//		time.Sleep(30 * time.Second)
//		…                           // it must have stopped by now: another may own
//	})
//
// The file service_test.go of this package tests a small service in this way.
type Memory struct {
	lease *lease

	mu     sync.Mutex
	faults map[Op]fault
}

// lease is the state that all users of a lease share.
type lease struct {
	start time.Time

	mu      sync.Mutex
	holder  *owner.Record // nil if there is no record
	revoked bool          // the holder has lost the lease, and has not released it yet
	until   time.Duration // when the holder's lease expires
	asked   *request      // to the holder to step down; nil: none
	epoch   uint64        // the last
	hints   map[*func()]struct{}
}

// NewMemory returns a store with a new lease, which is free.
func NewMemory() *Memory {
	return newMemory(&lease{start: time.Now(), hints: map[*func()]struct{}{}})
}

func newMemory(l *lease) *Memory { return &Memory{lease: l, faults: map[Op]fault{}} }

// Peer returns another store for the same lease, as of another machine: a fault of one
// does not affect the other's calls.
func (m *Memory) Peer() *Memory { return newMemory(m.lease) }

// String names it in errors and logs.
func (m *Memory) String() string { return "a lease in memory" }

// Now is Go's clock, since the lease was made.
func (m *Memory) Now() time.Duration { return time.Since(m.lease.start) }

// Acquire implements owner.Store.
func (m *Memory) Acquire(ctx context.Context, claim owner.Record) (acq owner.Acquisition, err error) {
	from := m.Now()
	err = m.call(ctx, Acquire, func() error {
		acq = m.acquire(claim, from)
		return nil
	})
	if err != nil {
		return owner.Acquisition{}, err
	}
	return acq, nil
}

func (m *Memory) acquire(claim owner.Record, from time.Duration) owner.Acquisition {
	l := m.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held(m.Now()) {
		return owner.Acquisition{Holder: *l.holder}
	}
	l.put(&claim, from)
	return owner.Acquisition{Holder: claim, Lease: &memoryLease{m, claim}, From: from}
}

// put makes the claim the record.
func (l *lease) put(claim *owner.Record, from time.Duration) {
	l.epoch++
	claim.Epoch = l.epoch
	claim.AcquiredAt = time.Now()
	claim.RenewedAt = claim.AcquiredAt
	rec := *claim
	l.holder, l.until, l.revoked, l.asked = &rec, from+claim.TTL, false, nil
	l.hint()
}

func (l *lease) held(now time.Duration) bool { return l.holder != nil && now < l.until }

func (l *lease) hint() {
	for h := range l.hints {
		(*h)()
	}
}

// Look implements owner.Store.
func (m *Memory) Look(ctx context.Context) (view owner.View, err error) {
	err = m.call(ctx, Look, func() error {
		view = m.look()
		return nil
	})
	if err != nil {
		return owner.View{}, err
	}
	return view, nil
}

func (m *Memory) look() owner.View {
	l := m.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held(m.Now()) {
		return owner.View{}
	}
	view := owner.View{Holder: *l.holder, Until: l.until}
	if l.asked != nil {
		view.HandoverRequested, view.Successor = true, l.asked.successor
	}
	return view
}

// A request asks the holder to step down.
type request struct{ successor string }

// RequestHandover implements owner.HandoverStore.
func (m *Memory) RequestHandover(ctx context.Context, holder, successor string) error {
	return m.call(ctx, Handover, func() error {
		l := m.lease
		l.mu.Lock()
		defer l.mu.Unlock()
		switch before := l.asked; {
		case !l.held(m.Now()) || l.holder.InstanceID != holder:
			return owner.ErrNoHolder
		case before == nil || before.successor == "":
			l.asked = &request{successor}
		case successor != "" && successor != before.successor:
			return fmt.Errorf("%w: for %s", owner.ErrHandover, before.successor)
		}
		l.hint()
		return nil
	})
}

// Watch implements owner.Store.
func (m *Memory) Watch(_ owner.Record, hint func()) (stop func(), err error) {
	l := m.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hints[&hint] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.hints, &hint)
	}, nil
}

// TakeOver replaces the holder by another instance, as no correct store does: the owner
// has lost the lease to it (owner.ErrTakenOver). The new lease is never renewed, and
// expires after the holder's TTL, or after a minute if the lease was free.
func (m *Memory) TakeOver() owner.Record {
	l := m.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	rec := owner.Record{InstanceID: uuid.NewString(), PID: os.Getpid(), Host: "elsewhere", TTL: time.Minute}
	if l.held(m.Now()) {
		rec.TTL = l.holder.TTL
	}
	l.put(&rec, m.Now())
	return rec
}

// Revoke takes the lease away from its owner, as the removal of a record does: the owner
// has lost the lease (owner.ErrRevoked). Others can own it when the owner has released
// it, or when it has expired.
func (m *Memory) Revoke() {
	l := m.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoked = true
	l.hint()
}

func (l *lease) free() {
	l.holder = nil
	l.hint()
}

// memoryLease is an ownership.
type memoryLease struct {
	m   *Memory
	rec owner.Record
}

func (o *memoryLease) Renew(ctx context.Context, at time.Duration) error {
	return o.m.call(ctx, Renew, func() error {
		l := o.m.lease
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case l.holder == nil || l.revoked && l.holder.InstanceID == o.rec.InstanceID:
			return fmt.Errorf("%w: the record was removed", owner.ErrRevoked)
		case l.holder.InstanceID != o.rec.InstanceID:
			return fmt.Errorf("%w: instance %s, epoch %d", owner.ErrTakenOver, l.holder.InstanceID, l.holder.Epoch)
		}
		renewed := *l.holder // others have the one before
		renewed.RenewedAt = time.Now()
		l.holder, l.until = &renewed, at+o.rec.TTL
		return nil
	})
}

func (o *memoryLease) Advertise(ctx context.Context, meta map[string]string) error {
	return o.m.call(ctx, Advertise, func() error {
		l := o.m.lease
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.holder == nil || l.revoked || l.holder.InstanceID != o.rec.InstanceID {
			return fmt.Errorf("%w: the record is not this instance's any more", owner.ErrRevoked)
		}
		told := *l.holder // others have the one before
		told.Meta = maps.Clone(meta)
		l.holder = &told
		l.hint()
		return nil
	})
}

func (o *memoryLease) Release(ctx context.Context) error {
	return o.m.call(ctx, Release, func() error {
		l := o.m.lease
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.holder != nil && l.holder.InstanceID == o.rec.InstanceID {
			l.free()
		}
		return nil
	})
}
