package contend

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
)

// A Spy is a store that knows what has been asked of it.
type Spy struct {
	owner.Store
	ttl     atomic.Int64
	sought  atomic.Int64 // when the last attempt to acquire was begun
	first   atomic.Int64 // what the last ownership's first TTL counts from
	counts  atomic.Int64 // what its last TTL counts from
	elected atomic.Int64 // when the last attempt was won

	begun, ended  atomic.Int64 // reads
	failed, hints atomic.Int64
}

// First is what the last ownership's first TTL counts from, From what its last counts from,
// and Expires when that has passed.
func (s *Spy) First() time.Duration   { return time.Duration(s.first.Load()) }
func (s *Spy) From() time.Duration    { return time.Duration(s.counts.Load()) }
func (s *Spy) Expires() time.Duration { return s.From() + time.Duration(s.ttl.Load()) }

// Elected is when the last attempt was won.
func (s *Spy) Elected() time.Duration { return time.Duration(s.elected.Load()) }

// Failed counts attempts to acquire and renewals that have failed, Hints the hints.
func (s *Spy) Failed() int64 { return s.failed.Load() }
func (s *Spy) Hints() int64  { return s.hints.Load() }

func (s *Spy) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	s.sought.Store(int64(s.Now()))
	acq, err := s.Store.Acquire(ctx, claim)
	if err != nil {
		s.failed.Add(1)
	}
	if acq.Lease != nil {
		s.elected.Store(int64(s.Now()))
		s.ttl.Store(int64(claim.TTL))
		s.first.Store(int64(acq.From))
		s.counts.Store(int64(acq.From))
		acq.Lease = &spiedLease{acq.Lease, s}
	}
	return acq, err
}

func (s *Spy) Look(ctx context.Context) (owner.View, error) {
	n := s.begun.Add(1)
	view, err := s.Store.Look(ctx)
	if err == nil {
		s.ended.Store(n)
	}
	return view, err
}

func (s *Spy) Watch(holder owner.Record, hint func()) (func(), error) {
	return s.Store.Watch(holder, func() {
		s.hints.Add(1)
		hint()
	})
}

type spiedLease struct {
	owner.Lease
	spy *Spy
}

func (l *spiedLease) Renew(ctx context.Context, at time.Duration) error {
	err := l.Lease.Renew(ctx, at)
	switch {
	case err != nil:
		l.spy.failed.Add(1)
	case l.spy.Now() < l.spy.Expires(): // otherwise it comes too late to count
		l.spy.counts.Store(int64(at))
	}
	return err
}
