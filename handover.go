package owner

import (
	"context"
	"errors"
	"fmt"

	"github.com/ownerlease/owner/internal/leasename"
)

// A HandoverStore is a Store by which an owner can be asked to step down, with
// [RequestHandover]. FileStore returns one.
type HandoverStore interface {
	Store
	// RequestHandover leaves a request to holder, an InstanceID, to step down for
	// successor, another, or "" for any standby. It does not wait until that is done. From
	// then on, Look shows the request, and those that watch the lease get a hint. It is
	// for this ownership only: no other is asked by it, and it goes away with the lease
	// or the next acquisition.
	//
	// One request counts. To leave the same again is no error; nor is "" where a
	// successor is named already, whose request then stays, or a successor where any had
	// been asked for, which is named from then on. Another successor is refused with an
	// error that matches [ErrHandover] and says who was named before.
	//
	// [ErrNoHolder] says that holder does not own the lease. After any other error the
	// request may have been left. Whatever happens, the lease is owned as before.
	RequestHandover(ctx context.Context, holder, successor string) error
}

// RequestHandover asks the owner of a lease to step down: its
// [Owner.HandoverRequested] closes, within milliseconds where the store gives hints. What
// it then does is its own matter. One that is in [Run] ends its work, releases the lease
// when that has returned, and becomes a standby.
//
// cfg names the lease, by its LeasePath or its Store; the rest of it is not used.
// successor is the id of a standby, by [Owner.StandbyID]: it looks at once when the lease
// is released, and the others a moment later. "" is for any standby. If the successor has
// gone, or is slow, another standby owns after that moment; if there is no standby, the
// one that has stepped down owns again where it is in Run; an "owner run" ends, and the
// lease is free.
//
// It returns when the request has been left, and does not wait for the owner: one that
// hangs never answers it. To wait, watch the lease, and where that takes too long,
// [Revoke] it. The request itself costs no instance the lease.
//
// Errors match [ErrNoHolder] where no instance owns the lease; [ErrHandover] where its
// owner has been asked before, for another successor; [ErrInvalidConfig] for a successor
// that is not an instance's id or owns the lease already, and for a Store that is no
// [HandoverStore]; or they are what Join returns for a lease that cannot be used.
func RequestHandover(ctx context.Context, cfg Config, successor string) error {
	if err := cfg.requestHandover(ctx, successor); err != nil {
		return &opError{"request a handover of " + cfg.lease(), err}
	}
	return nil
}

func (cfg *Config) requestHandover(ctx context.Context, successor string) error {
	if successor != "" && !leasename.IsInstanceID(successor) {
		return fmt.Errorf("%w: the successor is %q; it must be the InstanceID of a standby, or empty for any", ErrInvalidConfig, successor)
	}
	store := cfg.Store
	if store == nil {
		s, err := openLease(cfg.LeasePath)
		if err != nil {
			return err
		}
		store = s
	}
	s, ok := store.(HandoverStore)
	if !ok {
		return fmt.Errorf("%w: its store, a %T, keeps no requests: stop the owner in another way, or use Revoke", ErrInvalidConfig, store)
	}
	const tries = 3 // one owner can follow another in between
	err := ErrNoHolder
	for range tries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err = askHolder(ctx, s, successor); !errors.Is(err, ErrNoHolder) {
			break
		}
	}
	return err
}

// askHolder leaves the request to the present holder.
func askHolder(ctx context.Context, s HandoverStore, successor string) error {
	view, err := s.Look(ctx)
	switch {
	case err != nil:
		return err
	case view.Free():
		return fmt.Errorf("%w: join it, it is free", ErrNoHolder)
	case view.Holder.InstanceID == successor:
		return fmt.Errorf("%w: the successor, %s, owns the lease already", ErrInvalidConfig, successor)
	}
	return s.RequestHandover(ctx, view.Holder.InstanceID, successor)
}

// HandoverRequested returns a channel that is closed when this owner is asked to step
// down, with [RequestHandover]. The lease is kept, and renewed: finish what has begun, and
// then call Release. Run does so. An owner may ignore it.
//
// It is never closed for a follower, nor after the ownership has ended.
func (o *Owner) HandoverRequested() <-chan struct{} { return o.a.requested.done() }

// StandbyID returns the id with which this standby would own the lease, for
// [RequestHandover]. It is "" for a follower that is no standby, and once this instance
// has owned. It changes after an attempt to acquire the lease that has ended too late.
func (o *Owner) StandbyID() string {
	if !o.a.hints.standing {
		return ""
	}
	return o.a.snap.Load().claims
}
