package owner

import (
	"context"
	"time"
)

// Store keeps one lease, which the instances that use it contend for. FileStore keeps it
// in a file, and is what Join uses where [Config.Store] is nil; an Owner uses it only by
// this interface. The package ownertest has a suite that a store must pass, and a store
// in memory.
//
// # Who calls it
//
// An Owner makes its calls of Acquire, Look, Watch and the methods of its Lease one
// at a time, in a goroutine that is neither the caller's nor its actor's. So they may
// block for as long as they like: the Owner fences itself meanwhile, and discards late
// answers. They should return soon after ctx has ended. Now and the stop of Watch are
// called from anywhere, while other calls run.
//
// Several Owners may share a Store, and so may readers (WatchStore): all
// methods must be safe for use by several goroutines. Those of one Lease need not.
//
// # The clock
//
// All times that are a time.Duration are readings of Now: of the instance's own clock,
// which need not be comparable with another's unless the store compares them. An instance
// counts its own validity from before a request is sent; the store must count the expiry
// that others wait for from after that.
//
// # Errors
//
// The caller infers no more from an error than the method's description says. Where the
// store does not answer now and may later, the error matches [ErrUnavailable]: Campaign
// and Run then keep trying. [ErrInvalidConfig] says that the store or the claim cannot be
// used as it is. Errors are shown to users: they say what was tried, and on which store.
//
// If a Store has a String method, errors and logs name it by that.
type Store interface {
	// Now reads the clock that the lease is timed by. It never steps or runs
	// backwards, over all goroutines, and runs at the same rate for every instance,
	// and, while the machine is awake, at that of Go's timers. Where instances can be on
	// several machines, it keeps running while a machine is suspended; where all are on
	// one, it may stop, as they do. Its zero is arbitrary.
	//
	// IsOwner calls it each time: it must not block, and should be cheap.
	Now() time.Duration

	// Acquire takes the lease for claim if it is free, and names the holder if it
	// is not. It does not wait for a live holder.
	//
	// claim has all of the record but the Epoch and the times, which Acquire fills in.
	// The Epoch is above zero and above that of every ownership before, however that
	// ended. claim.InstanceID is a UUID, and never used for a second ownership. The lease
	// lasts for claim.TTL, whatever TTL other claims have, so a store that cannot keep
	// this TTL refuses it with [ErrInvalidConfig].
	//
	// An error says that this call has not made the instance the owner, and never
	// will. Where it may have been applied, as after a lost answer, Acquire releases what
	// it may have acquired; what it cannot release expires after claim.TTL.
	Acquire(ctx context.Context, claim Record) (Acquisition, error)

	// Look reads who owns the lease, and does not try to acquire it. It sees what was
	// acquired, released or renewed before it was called. After an error, nothing is
	// known.
	Look(ctx context.Context) (View, error)

	// Watch calls hint whenever the lease may have changed since holder owned it, from
	// any goroutine, until stop is called; when stop returns, no hint is under way, and
	// none follows. A needless hint costs a read. A missing one costs time, never safety:
	// an instance that waits for the lease polls it all the same. hint never blocks, and
	// calls nothing of the store.
	//
	// holder is as the last read has shown it, the zero Record where no instance owns the
	// lease. Watch need not report what happened between that read and its call: the
	// caller reads once more afterwards.
	//
	// Neither Watch nor stop may block for longer than a moment: an Owner is not
	// elected before Watch has returned, nor Done before stop has. stop is called
	// once, and leaves no goroutine behind.
	//
	// An error says which hints will be missing, and is logged; stop, if it is not
	// nil, is to be called all the same.
	Watch(holder Record, hint func()) (stop func(), err error)
}

// View is a lease as a read has shown it.
type View struct {
	// Holder is the record of the instance that owns the lease. It is the zero Record if
	// the lease seems free, and has only the InstanceID where nothing else of the owner
	// can be read.
	Holder Record
	// Until is what the store's clock will show when the lease expires if it is not
	// renewed, 0 where that is not known. It may be later than the real expiry, but not
	// earlier.
	Until time.Duration
	// HandoverRequested says that the holder is asked to step down, and Successor for
	// which standby: its InstanceID, "" for any. Only a [HandoverStore] sets them. They
	// may be set for a free lease, too: by a request to its last holder.
	HandoverRequested bool
	Successor         string
}

// Free reports whether the lease has no owner, as far as could be seen.
func (v View) Free() bool { return v.Holder.InstanceID == "" }

// Acquisition is the outcome of an attempt to acquire a lease.
type Acquisition struct {
	// Holder is the record of the instance that owns the lease: of this one,
	// complete, if Lease is not nil, otherwise of another, with its InstanceID at
	// least.
	Holder Record
	// Lease is the ownership that was won, nil if another instance has it.
	Lease Lease
	// From is what the store's clock showed before the write that made this instance the
	// owner was sent: its first TTL counts from here. It must not be later, or two
	// instances could own at once.
	From time.Duration
}

// Lease is one ownership in a Store. Its methods are never called concurrently.
type Lease interface {
	// Renew makes the lease last until at + TTL at least; at is what the store's
	// clock showed before the call. nil says that no other instance can own the lease
	// before then, provided that it had not expired before Renew returned: the Owner asks
	// the clock, and ignores a nil that comes after its fence deadline.
	//
	// An error that matches [ErrTakenOver] or [ErrRevoked] says that the ownership has
	// ended for good: by another instance, or without one. Any other error leaves
	// open whether the renewal was applied, now or later: the Owner has not moved its
	// fence deadline, and tries again until then.
	Renew(ctx context.Context, at time.Duration) error

	// Advertise replaces the Meta of the record, for good: Look shows it, and Renew keeps
	// it. Those who watch the lease get a hint. It is no renewal, and must not make the
	// lease last longer.
	//
	// An error leaves open whether it was applied; the lease is owned as before, and lasts
	// as long. Another owner's record is left alone, whenever the call is applied.
	Advertise(ctx context.Context, meta map[string]string) error

	// Release releases the lease, so that a successor can own it at once, and frees what
	// the lease holds in this process. It is the last call, made once, also after a loss:
	// then it comes when the lease has expired or its owner has stopped, and must leave
	// another owner's record alone. A process that dies makes no last call.
	//
	// ctx outlives the Owner's and ends after a TTL. An error says that a successor may
	// have to wait until the lease has expired.
	Release(ctx context.Context) error
}
