package owner

import (
	"fmt"
	"sync/atomic"
	"time"
)

// A snapshot is all that readers see of the actor, published as one.
type snapshot struct {
	state  State
	fence  time.Duration // IsOwner holds before this reading of the store's clock
	from   time.Duration // what the validity counts from
	holder *Record       // who owns, never changed after publication
	claims string        // the id that this instance would own with; "" once it owns
	stats  Stats
	lost   *LostError // in StateLost
	err    error      // of a standby: why it cannot read or acquire the lease

	// A reader has found the fence passed: this ownership has ended for good.
	expired bool
}

// publish shows readers what the core is now.
func (a *actor) publish(lost *LostError) {
	a.snap.Store(a.snapshot(&a.core, lost))
	a.published.send()
}

// snapshot is what readers are to see of the core.
func (a *actor) snapshot(c *core, lost *LostError) *snapshot {
	s := &snapshot{state: c.state, fence: c.fence(), from: c.validFrom, holder: a.holder, lost: lost, stats: a.stats}
	if c.standsBy() {
		s.err = c.err
	}
	if a.claim != nil {
		s.claims = a.claim.InstanceID
	}
	return s
}

// owns reports whether the instance owns the lease at this instant. The state alone would
// be wrong after a pause: a process that was stopped past its deadline continues before
// its actor has noticed.
func (a *actor) owns() bool {
	for {
		s := a.snap.Load()
		switch {
		case s.expired || s.state != StateOwner && s.state != StateRenewing:
			return false
		case a.store.Now() < s.fence:
			return true
		}
		// No answer to a renewal that the actor takes up late may take this back.
		expired := *s
		expired.expired = true
		if a.snap.CompareAndSwap(s, &expired) {
			return false
		}
	}
}

// check says why the instance does not own the lease, nil if it does.
func (a *actor) check() error {
	if a.owns() {
		return nil
	}
	s := a.snap.Load()
	switch s.state {
	case StateLost:
		return s.lost
	case StateReleased:
		return ErrReleased
	case StateOwner, StateRenewing:
		return ErrExpired
	}
	if s.err != nil {
		return fmt.Errorf("%w: standby: %w", ErrNotOwner, s.err)
	}
	return ErrNotOwner
}

// owner is the owner that the snapshot shows, the zero Record if there is none.
func (s *snapshot) owner() Record {
	if s.final() {
		return Record{}
	}
	return *s.holder
}

func (s *snapshot) owns() bool  { return s.state == StateOwner || s.state == StateRenewing }
func (s *snapshot) final() bool { return s.state == StateLost || s.state == StateReleased }

// A signal tells any number of goroutines that something has happened. It costs hardly
// anything while none waits.
type signal struct{ waiting atomic.Pointer[chan struct{}] }

// next returns a channel that is closed when it happens next.
func (s *signal) next() <-chan struct{} {
	for {
		if c := s.waiting.Load(); c != nil {
			return *c
		}
		c := make(chan struct{})
		if s.waiting.CompareAndSwap(nil, &c) {
			return c
		}
	}
}

func (s *signal) send() {
	if s.waiting.Load() == nil {
		return
	}
	if c := s.waiting.Swap(nil); c != nil {
		close(*c)
	}
}
