package owner

import (
	"context"
	"time"
)

// Store keeps one lease. The store that Join uses by default keeps it in a file;
// Config.Store takes another.
//
// Acquire, Look and the methods of Lease run in goroutines of their own, one at a
// time for one Owner. They may block for as long as they like: the Owner fences
// itself meanwhile. They should return soon after ctx has ended, but need not.
type Store interface {
	// Now reads the clock that the lease is timed by. It must never step or run
	// backwards, run at the same rate for every instance, and be safe for use by
	// several goroutines: IsOwner reads it on every call.
	Now() time.Duration

	// Acquire takes the lease for claim if it is free, and names the holder if it
	// is not. It does not wait for a live holder. claim has everything of the
	// record but the Epoch and the times.
	//
	// An error means that the lease was not taken by this call.
	Acquire(ctx context.Context, claim Record) (Acquisition, error)

	// Look says who owns the lease, and does not try to take it.
	Look(ctx context.Context) (View, error)

	// Watch has hint called whenever the lease may be another than when holder
	// owned it, from any goroutine, until stop returns. A hint that comes for
	// nothing costs a look, one that is missing costs time: who waits for the lease
	// looks from time to time all the same. hint never blocks.
	//
	// holder is the zero Record where nobody owns the lease. Neither Watch nor stop,
	// which can come while other methods run, may block: an Owner is not elected
	// before Watch has returned, nor Done before stop has.
	//
	// An error says which hints will be missing; stop is to be called all the same.
	Watch(holder Record, hint func()) (stop func(), err error)
}

// View is a lease as a look has shown it.
type View struct {
	// Holder is the record of the instance that owns the lease. It is the zero
	// Record if the lease looks free.
	Holder Record
	// Until is what the store's clock will show when the lease runs out if it is
	// not renewed, 0 where that is not known.
	Until time.Duration
}

// Free reports whether nobody owns the lease, as far as could be seen.
func (v View) Free() bool { return v.Holder.InstanceID == "" }

// Acquisition is how an attempt to take a lease ended.
type Acquisition struct {
	// Holder is the record of the instance that owns the lease: of this one if
	// Lease is not nil, otherwise of another.
	Holder Record
	// Lease is the ownership that was won, nil if another instance has it.
	Lease Lease
	// From is what the store's clock showed before the write that made this
	// instance the owner: its first TTL counts from here. Never later than that,
	// or two instances could own at once.
	From time.Duration
}

// Lease is one ownership in a Store. Its methods are never called concurrently.
type Lease interface {
	// Renew makes the lease last until at + TTL; at is what the store's clock
	// showed before the call. nil means that no other instance can own the lease
	// before then.
	//
	// An error that matches ErrTakenOver or ErrRevoked means that the ownership
	// has ended for good. Any other error leaves open whether the renewal was
	// applied: the Owner tries again until its fence deadline, which it has not
	// moved.
	Renew(ctx context.Context, at time.Duration) error

	// Release gives the lease up, so that a successor can own it at once, and
	// frees what the lease holds in this process. It is the last call, also
	// after a loss: then it comes when the lease has run out, and must leave the
	// record of another owner alone.
	Release(ctx context.Context) error
}
