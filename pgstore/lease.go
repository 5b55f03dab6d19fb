package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/witness"
)

// A lease is one ownership: the row, for as long as it has this instance's id.
type lease struct {
	store      *store
	timeout    requestTimeout
	rec        owner.Record
	advertised int64 // how often Advertise was called

	// validUntil is when the ownership ends by the renewals that were answered. While it
	// had not passed, no other instance owned anywhere, also none whose acquisition a
	// failover has lost: one that owns has waited for this one. So the row, as the server
	// that has answered then has it, is the last that counts: the next renewal stamps it
	// with that server's incarnation, which is confirmed, and a standby does not have to
	// wait for the longest TTL.
	validUntil time.Duration
	confirmed  string
}

// Renew: see owner.Lease. One statement adds one to the row's beat, for all leases of the
// process that are to be renewed; see keeper.
//
// nil: the row has had this instance's id, and the new beat was committed after the call
// began. A standby takes the lease only when it has seen one beat for a TTL, and counts
// from after the answer that showed it.
//
// owner.ErrTakenOver, owner.ErrRevoked: the row has another instance, or was released by a
// witness, revoked, or deleted.
//
// Any other error: the beat may be committed, now or later. That costs a standby time, and
// gives this instance none.
func (l *lease) Renew(ctx context.Context, at time.Duration) error {
	s := l.store
	incarnation, err := s.db.keeper.renew(ctx, &renewal{
		key: s.key, instance: l.rec.InstanceID, confirmed: l.confirmed, timeout: l.timeout,
	})
	if err != nil {
		return s.db.failed(ctx, "renew "+s.String(), err)
	}
	if s.Now() < l.validUntil {
		l.validUntil, l.confirmed = at+l.rec.TTL, incarnation
	}
	return nil
}

// lost says what has become of a row that could not be renewed.
func lost(r *row, instance string) error {
	switch {
	case !r.present:
		return fmt.Errorf("%w: the row of the lease %q was deleted from owner_lease, or lost in a failover", owner.ErrRevoked, r.key)
	case r.instance != instance && r.held:
		if v, err := decode(r.record); err == nil {
			return fmt.Errorf("%w: instance %s, pid %d on %s, epoch %d", owner.ErrTakenOver, r.instance, v.PID, v.Host, r.epoch)
		}
		return fmt.Errorf("%w: instance %s, epoch %d", owner.ErrTakenOver, r.instance, r.epoch)
	case r.instance != instance:
		return fmt.Errorf("%w: the lease %q was acquired and released by another instance, %s, or lost in a failover", owner.ErrTakenOver, r.key, r.instance)
	case r.revoked:
		return fmt.Errorf("%w: the lease %q was taken away, with pgstore.Revoke or owner-pg revoke", owner.ErrRevoked, r.key)
	case !r.held:
		return fmt.Errorf("%w: the lease %q was released by another program", owner.ErrRevoked, r.key)
	}
	return errLocked
}

// Advertise: see owner.Lease. A request that is applied late changes neither what a later
// one has written, nor another owner's record. The beat stays, so that it is no renewal.
func (l *lease) Advertise(ctx context.Context, meta map[string]string) error {
	s := l.store
	rec := l.rec
	rec.Meta = meta
	text, err := encode(rec, l.process())
	if err != nil {
		return err
	}
	l.advertised++
	n, err := s.db.change(ctx, l.timeout, sqlAdvertise, s.key, rec.InstanceID, text, l.advertised)
	if err == nil && n == 0 {
		err = l.advertisedAlready(ctx, text)
	}
	if err != nil {
		return s.db.failed(ctx, "advertise in "+s.String(), err)
	}
	return nil
}

// advertisedAlready finds out why no row was changed: the request before has done it, and
// its answer was lost, or the lease is lost.
func (l *lease) advertisedAlready(ctx context.Context, text string) error {
	rows, err := l.store.db.read(ctx, l.timeout, l.store.key)
	if err != nil {
		return err
	}
	if r := &rows[0]; r.instance != l.rec.InstanceID || !r.held || r.revoked || r.record != text {
		return lost(r, l.rec.InstanceID)
	}
	return nil
}

// Release: see owner.Lease. Another owner's row has another id.
func (l *lease) Release(ctx context.Context) error {
	s := l.store
	defer s.db.keeper.leave(l)
	if s.Now() >= l.validUntil {
		l.confirmed = ""
	}
	if _, err := s.release(ctx, l.timeout, l.rec.InstanceID, l.confirmed); err != nil {
		return s.db.failed(ctx, "release "+s.String(), err)
	}
	return nil
}

// process names this process for witnesses, unless its work is in others.
func (l *lease) process() string {
	if l.store.unwitnessed {
		return ""
	}
	return witness.Self()
}
