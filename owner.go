package owner

import (
	"context"
	"maps"
	"time"
)

//go:generate go test -run TestDiagramIsCurrent -update .

// Owner is one instance's membership: as the owner, or as a follower. Its methods
// may be called from any goroutine.
type Owner struct{ a *actor }

// Join takes the lease if it is free, and returns an Owner that owns it and
// renews it in the background; otherwise it returns a follower, which knows the
// holder. It does not wait for a live holder. A lease is free when there is no
// record, when it was released, when its owner is dead, or when it has expired.
//
// ctx bounds Join, the wait of a standby, and the renewals: after its end none begins,
// and the ownership lasts until its deadline unless Release comes first. If ctx does not
// end, Join gives up a store that hangs after TTL - SafetyMargin.
//
// Where ctx ends with a signal, as by signal.NotifyContext, the renewals end with it,
// before the work has wound down: the ownership then lasts for what is left of the
// lease, less the SafetyMargin. Run keeps renewing until the work has returned.
//
// A follower that Join has returned stays one, and its Holder, Endpoint and Epoch stay
// as they were, unless it is a standby (see [Config.Standby]). To try again, join again.
//
// Errors match [ErrInvalidConfig], [ErrCorruptRecord], [ErrUnsupportedFilesystem],
// [ErrUnavailable], the cause of ctx's end, or what the operating system says
// (fs.ErrNotExist for a missing folder, fs.ErrPermission). The lease is then not
// owned.
func Join(ctx context.Context, cfg Config) (*Owner, error) {
	t, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, cfg.joinError(context.Cause(ctx))
	}
	store := cfg.Store
	if store == nil {
		if store, err = cfg.fileStore(); err != nil {
			return nil, cfg.joinError(err)
		}
	}
	a := newActor(ctx, store, cfg.claim(), t, newNotices(&cfg))
	a.healthy, a.evictor.evict = cfg.Healthy, cfg.Evict
	if err := a.join(cfg.Standby); err != nil {
		return nil, cfg.joinError(err)
	}
	return &Owner{a}, nil
}

// Role returns RoleOwner while IsOwner is true, otherwise RoleFollower.
func (o *Owner) Role() Role {
	if o.IsOwner() {
		return RoleOwner
	}
	return RoleFollower
}

// IsOwner reports whether this instance owns the lease at this instant. It asks
// the clock on every call: it is false from the fence deadline on, also in the
// first moment after a pause of the whole process. It costs nanoseconds and
// allocates nothing; ask before each step of the work.
func (o *Owner) IsOwner() bool { return o.a.owns() }

// Check returns nil while IsOwner is true; otherwise why it is not: the
// *LostError, [ErrExpired] if the deadline has passed and Lost is about to close,
// [ErrReleased], or [ErrNotOwner], together with the error that keeps a standby from
// reading or acquiring the lease.
func (o *Owner) Check() error { return o.a.check() }

// State returns the state of the state machine. It can lag behind the clock for a moment:
// to know whether to continue, ask IsOwner.
func (o *Owner) State() State { return o.a.snap.Load().state }

// InstanceID returns this instance's id if it owns or has owned the lease; as a
// follower, the holder's.
func (o *Owner) InstanceID() string { return o.a.snap.Load().holder.InstanceID }

// Holder returns the record of the current owner as this instance knows it: a follower
// returns it as it was when it joined, a standby as it was at its last read (the zero
// Record if no process owned the lease then), an owner its own, and after a loss or a
// release as it was. Where the holder's record was missing or replaced, only the
// InstanceID is set. The map is the caller's.
func (o *Owner) Holder() Record {
	s := o.a.snap.Load()
	r := *s.holder
	r.Meta = maps.Clone(r.Meta)
	if s.state == StateOwner || s.state == StateRenewing {
		r.RenewedAt = time.Now().Add(s.from - o.a.store.Now())
	}
	r.Released = r.Released || s.state == StateReleased && o.hasOwned()
	return r
}

func (o *Owner) hasOwned() bool {
	select {
	case <-o.Elected():
		return true
	default:
		return false
	}
}

// Endpoint returns the current owner's endpoint, "" if it has none or if this
// instance no longer knows who owns the lease.
func (o *Owner) Endpoint() string {
	s := o.a.snap.Load()
	if s.state == StateLost || s.state == StateReleased {
		return ""
	}
	return s.holder.Meta[EndpointMetaKey]
}

// Epoch returns the fencing token of the ownership that this instance has, had,
// or follows. Every later ownership of the lease has a higher one: a receiver of
// the owner's effects that refuses lower epochs than it has seen is safe from
// owners of the past.
func (o *Owner) Epoch() uint64 { return o.a.snap.Load().holder.Epoch }

// Elected returns a channel that is closed once this instance owns the lease: by Join, or
// later if it is a standby. It stays closed after the ownership has ended.
func (o *Owner) Elected() <-chan struct{} { return o.a.elected }

// Lost returns a channel that is closed when the ownership is lost: no later than
// SafetyMargin before anyone else can own the lease, if the scheduler lets this
// process run. It is never closed for a follower, nor by Release.
func (o *Owner) Lost() <-chan struct{} { return o.a.lost }

// LostErr returns a *LostError once Lost is closed, otherwise nil.
func (o *Owner) LostErr() error {
	if lost := o.a.snap.Load().lost; lost != nil {
		return lost
	}
	return nil
}

// Context returns a context that is derived from Join's and lasts while this instance
// owns the lease. Its cause is the *LostError, [ErrReleased], the cause of Join's
// context, or, for a follower, [ErrNotOwner]: a standby calls Context again when Elected
// has closed.
func (o *Owner) Context() context.Context {
	if s := o.State(); s != StateFollower && s != StateAcquiring && s != StateEvicting {
		return o.a.ctx
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(o.a.parent))
	cancel(ErrNotOwner)
	return ctx
}

// Done returns a channel that is closed when the actor has ended and every
// callback that was due has returned; for a plain follower, right after Join. No
// goroutine of the Owner is left then, with one exception: an operation that the
// operating system does not give back ends when it can, and changes nothing.
//
// Two timers can still fire. One, where the context has ended an ownership's renewals,
// reports the loss at the deadline, with its callback, unless Release comes first. The
// other closes the files of a lost lease when it has expired, or when Release is called
// after the loss.
func (o *Owner) Done() <-chan struct{} { return o.a.done }

// Release releases the lease. IsOwner turns false first; then a successor can own
// the lease at once. Stop using the resource before. A standby stops waiting for the
// lease.
//
// It may be called at any time, any number of times, and from several goroutines;
// all get the same outcome. It returns when the lease has been released, at the latest
// when it would have expired. An error says that a successor may have to wait until then.
// For a plain follower it does nothing. After a loss it says that the caller has stopped:
// a successor need not wait until the lost lease has expired. If the deadline has passed
// when Release is called, that is a loss.
func (o *Owner) Release() error { return o.a.release() }
