package pgstore

import (
	"context"
	"fmt"

	"github.com/ownerlease/owner"
)

// Revoke takes the lease with this key away from its owner, and returns when that has
// stopped: it has released the lease, or the lease has expired. It returns the record of
// the instance that owned the lease, the zero Record if there was none. The owner is
// notified at once and Lost closes; it has what is left of its lease to stop. A successor
// may own the lease when Revoke returns: standbys acquire it as after any loss.
//
// It marks the row as revoked, so that the owner's renewals find it no more. The row keeps
// the lease until the owner has stopped.
//
// An error with a record is the cause of ctx's end: the lease was revoked, and its owner
// may not have stopped yet. An error without one matches owner.ErrUnavailable where
// Postgres did not answer, and then the lease may have been revoked all the same.
func Revoke(ctx context.Context, db *DB, key string) (owner.Record, error) {
	s := New(db, key).(*store)
	holder, err := s.takeAway(ctx)
	if err == nil && holder.InstanceID != "" {
		err = s.untilEnded(ctx, holder)
	}
	if err != nil {
		err = fmt.Errorf("owner: revoke %v: %w", s, err)
	}
	return holder, err
}

// takeAway marks the row of the present ownership, and returns its owner. It marks no other:
// the statement names the instance. It does not end with ctx, as it would then not be known
// whether the lease was revoked.
func (s *store) takeAway(ctx context.Context) (owner.Record, error) {
	view, err := s.Look(ctx)
	if err != nil || view.Free() || view.Holder.InstanceID == unknownHolder {
		return view.Holder, err
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := s.db.change(ctx, readTimeout, sqlRevoke, s.key, view.Holder.InstanceID); err != nil {
		return owner.Record{}, s.db.failed(ctx, "revoke "+s.String(), err)
	}
	return view.Holder, nil
}

// untilEnded returns when this holder owns the lease no longer, or the cause of ctx's end.
func (s *store) untilEnded(ctx context.Context, holder owner.Record) error {
	for now, err := range owner.WatchStore(ctx, s) {
		if err == nil && now.InstanceID != holder.InstanceID {
			return nil
		}
	}
	return context.Cause(ctx)
}
