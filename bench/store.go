package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
)

// A registerStore keeps owner's lease in the register, for the job in which the
// store hangs: a file system that hangs needs root. It gives no hints, so that a standby
// polls by the clock alone.
type registerStore struct {
	reg     *registerClient
	renewed atomic.Int64 // when the last renewal that succeeded was begun
}

// An entry is what the cell holds.
type entry struct {
	Record    owner.Record
	Heartbeat time.Duration
}

func (e *entry) until() time.Duration { return e.Heartbeat + e.Record.TTL }

func (e *entry) held(now time.Duration) bool {
	return e.Record.InstanceID != "" && !e.Record.Released && now < e.until()
}

func (s *registerStore) Now() time.Duration { return clock.Now() }

// read reads the clock before the entry: a lease that has expired by that reading has
// expired whatever the entry is by now.
func (s *registerStore) read(ctx context.Context) (e entry, version uint64, now time.Duration, err error) {
	now = s.Now()
	cell, err := s.reg.get(ctx)
	if err == nil && cell.Version > 0 {
		err = json.Unmarshal(cell.Data, &e)
	}
	return e, cell.Version, now, err
}

func (s *registerStore) write(ctx context.Context, version uint64, e *entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.reg.put(ctx, version, data)
}

func (s *registerStore) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	e, version, now, err := s.read(ctx)
	if err != nil {
		return owner.Acquisition{}, fmt.Errorf("read the entry: %w", err)
	}
	if e.held(now) {
		return owner.Acquisition{Holder: e.Record}, nil
	}
	claim.Epoch, claim.AcquiredAt = e.Record.Epoch+1, time.Now()
	l := &registerLease{store: s, version: version + 1, entry: entry{claim, now}}
	if err := s.write(ctx, l.version, &l.entry); err != nil {
		return owner.Acquisition{}, fmt.Errorf("write the entry: %w", err)
	}
	s.renewed.Store(int64(now))
	return owner.Acquisition{Holder: claim, Lease: l, From: now}, nil
}

func (s *registerStore) Look(ctx context.Context) (owner.View, error) {
	e, _, now, err := s.read(ctx)
	if err != nil || !e.held(now) {
		return owner.View{}, err
	}
	return owner.View{Holder: e.Record, Until: e.until()}, nil
}

func (s *registerStore) Watch(owner.Record, func()) (func(), error) { return func() {}, nil }

type registerLease struct {
	store   *registerStore
	version uint64
	entry   entry
}

func (l *registerLease) Renew(ctx context.Context, at time.Duration) error {
	next := entry{l.entry.Record, at}
	switch err := l.store.write(ctx, l.version+1, &next); {
	case errors.Is(err, errChanged):
		return owner.ErrTakenOver
	case err != nil:
		return err
	}
	l.entry = next
	l.version++
	l.store.renewed.Store(int64(at))
	return nil
}

func (l *registerLease) Advertise(ctx context.Context, meta map[string]string) error {
	next := l.entry
	next.Record.Meta = meta
	if err := l.store.write(ctx, l.version+1, &next); err != nil {
		return err
	}
	l.entry = next
	l.version++
	return nil
}

func (l *registerLease) Release(ctx context.Context) error {
	l.entry.Record.Released = true
	err := l.store.write(ctx, l.version+1, &l.entry)
	if errors.Is(err, errChanged) {
		return nil // another's by now
	}
	return err
}
