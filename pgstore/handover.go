package pgstore

import (
	"context"
	"fmt"

	"github.com/ownerlease/owner"
)

// RequestHandover: see owner.HandoverStore. One statement notes the request in the row of
// this holder, and the next acquisition clears it. Applied twice, or late, it changes
// nothing more: it names the instance, and never replaces a successor.
func (s *store) RequestHandover(ctx context.Context, holder, successor string) error {
	r, free, err := s.look(ctx, readTimeout)
	if err != nil {
		return err
	}
	if free == 0 || !r.ownedBy(holder) {
		return owner.ErrNoHolder
	}
	n, err := s.db.change(ctx, readTimeout, sqlHandover, s.key, holder, successor)
	if err != nil {
		return s.db.failed(ctx, "request a handover of "+s.String(), err)
	}
	if n > 0 {
		return nil
	}
	if r, _, err = s.look(ctx, readTimeout); err != nil {
		return err
	}
	return r.asked(holder, successor)
}

// ownedBy reports whether the instance owns the lease as far as the row says. One whose
// lease was revoked is about to stop.
func (r *row) ownedBy(instance string) bool {
	return r.held && !r.revoked && r.instance == instance
}

// asked says why a request has changed nothing.
func (r *row) asked(holder, successor string) error {
	switch {
	case !r.ownedBy(holder):
		return owner.ErrNoHolder
	case r.handover && (successor == "" || successor == r.successor):
		return nil // it was noted before
	case r.handover:
		return fmt.Errorf("%w: by a request that names %s as the successor: let that handover end first", owner.ErrHandover, r.successor)
	}
	return fmt.Errorf("%w: request a handover of the lease %q: it was changed at the same time", owner.ErrUnavailable, r.key)
}
