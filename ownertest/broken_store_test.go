package ownertest

import (
	"context"
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// A broken store is a Memory that keeps all promises but one. Of its hooks, those that
// are set take the place of its methods.
type broken struct {
	*Memory
	deaf    bool // its peers give no hints
	silent  bool // it gives none, as NoHints says of it
	apart   bool // its peers have leases of their own
	now     func() time.Duration
	acquire func(ctx context.Context, claim owner.Record) (owner.Acquisition, error)
	look    func(ctx context.Context) (owner.View, error)
	watch   func(holder owner.Record, hint func()) (func(), error)
	renew   func(ctx context.Context, l *memoryLease, at time.Duration) error
	tell    func(ctx context.Context, l *memoryLease, meta map[string]string) error
	release func(ctx context.Context, l *memoryLease) error
	ask     func(ctx context.Context, holder, successor string) error
}

func (s *broken) RequestHandover(ctx context.Context, holder, successor string) error {
	if s.ask != nil {
		return s.ask(ctx, holder, successor)
	}
	return s.Memory.RequestHandover(ctx, holder, successor)
}

func (s *broken) Now() time.Duration {
	if s.now != nil {
		return s.now()
	}
	return s.Memory.Now()
}

func (s *broken) Acquire(ctx context.Context, claim owner.Record) (acq owner.Acquisition, err error) {
	if s.acquire != nil {
		acq, err = s.acquire(ctx, claim)
	} else {
		acq, err = s.Memory.Acquire(ctx, claim)
	}
	if l, ok := acq.Lease.(*memoryLease); ok {
		acq.Lease = &brokenLease{l, s}
	}
	return acq, err
}

func (s *broken) Look(ctx context.Context) (owner.View, error) {
	if s.look != nil {
		return s.look(ctx)
	}
	return s.Memory.Look(ctx)
}

func (s *broken) Watch(holder owner.Record, hint func()) (func(), error) {
	switch {
	case s.silent:
		return func() {}, nil
	case s.watch != nil:
		return s.watch(holder, hint)
	}
	return s.Memory.Watch(holder, hint)
}

type brokenLease struct {
	*memoryLease
	s *broken
}

func (l *brokenLease) Renew(ctx context.Context, at time.Duration) error {
	if l.s.renew != nil {
		return l.s.renew(ctx, l.memoryLease, at)
	}
	return l.memoryLease.Renew(ctx, at)
}

func (l *brokenLease) Advertise(ctx context.Context, meta map[string]string) error {
	if l.s.tell != nil {
		return l.s.tell(ctx, l.memoryLease, meta)
	}
	return l.memoryLease.Advertise(ctx, meta)
}

func (l *brokenLease) Release(ctx context.Context) error {
	if l.s.release != nil {
		return l.s.release(ctx, l.memoryLease)
	}
	return l.memoryLease.Release(ctx)
}

// change changes the lease behind everybody's back.
func (s *broken) change(f func(l *lease)) {
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	f(s.lease)
}

// force takes the lease, also from an owner.
func (s *broken) force(claim owner.Record) owner.Acquisition {
	from := s.Now()
	s.change(func(l *lease) { l.put(&claim, from) })
	return owner.Acquisition{Holder: claim, Lease: &memoryLease{s.Memory, claim}, From: from}
}

// edited is a Memory in which what an acquisition has come to is changed.
func edited(edit func(s *broken, acq *owner.Acquisition)) func(*broken) {
	return func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			acq, err := s.Memory.Acquire(ctx, claim)
			if err == nil {
				edit(s, &acq)
			}
			return acq, err
		}
	}
}

// seen is a Memory in which what a look shows is changed.
func seen(edit func(s *broken, view *owner.View)) func(*broken) {
	return func(s *broken) {
		s.look = func(ctx context.Context) (owner.View, error) {
			view, err := s.Memory.Look(ctx)
			if err == nil {
				edit(s, &view)
			}
			return view, err
		}
	}
}

func lasting(share float64) func(*broken) {
	scale := func(d time.Duration) time.Duration { return time.Duration(float64(d) * share) }
	return func(s *broken) {
		edited(func(s *broken, acq *owner.Acquisition) {
			if acq.Lease != nil {
				s.change(func(l *lease) { l.until = acq.From + scale(acq.Holder.TTL) })
			}
		})(s)
		s.renew = func(ctx context.Context, m *memoryLease, at time.Duration) error {
			err := m.Renew(ctx, at)
			if err == nil {
				s.change(func(l *lease) { l.until = at + scale(m.rec.TTL) })
			}
			return err
		}
	}
}

// brokenPeer is the same lease in another process.
func brokenPeer(_ *testing.T, s owner.Store) owner.Store {
	b := s.(*broken)
	peer := &broken{Memory: b.Memory.Peer(), silent: b.silent}
	if b.apart {
		peer.Memory = NewMemory()
	}
	if b.deaf {
		peer.watch = func(owner.Record, func()) (func(), error) { return func() {}, nil }
	}
	return peer
}

// loseBroken has acquisitions be applied, and their answers lost.
func loseBroken(_ *testing.T, s owner.Store) (restore func()) {
	m := s.(*broken).Memory
	m.Late(0, owner.ErrUnavailable, Acquire)
	return func() { m.Heal(Acquire) }
}
