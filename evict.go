package owner

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A hung owner has lost its lease, but its process still has what the system gave it. With
// Config.Evict, a challenger has that process ended first: an attempt to acquire the lease
// finds the owner (see acquireUnlessHung), Evict is called in a goroutine of its own, and
// another attempt follows, which looks at everything anew.

// An evictable store can tell an owner that hangs from one that is dead.
type evictable interface {
	// acquireUnlessHung is Acquire, but does not take a lease that has expired while its
	// owner's process still exists: it returns that owner.
	acquireUnlessHung(ctx context.Context, claim Record) (acq Acquisition, hung *Status, err error)
}

// An evictor calls Config.Evict.
type evictor struct {
	evict func(context.Context, Status) error // nil: a hung owner is not evicted
	busy  atomic.Bool                         // a call has not returned
}

func (cfg *Config) checkEvict() error {
	if cfg.Evict == nil || cfg.Store == nil {
		return nil
	}
	if _, ok := cfg.Store.(evictable); !ok {
		return errors.New("there is Evict, and a Store that cannot tell a hung owner from a dead one: it is for a lease file only")
	}
	return nil
}

// acquire tries once to acquire the lease, or finds the owner that is to be evicted first.
func (a *actor) acquire() (Acquisition, *Status, error) {
	if a.evictor.evict == nil {
		acq, err := a.store.Acquire(a.ctx, *a.claim)
		return acq, nil, err
	}
	return a.store.(evictable).acquireUnlessHung(a.ctx, *a.claim)
}

// evictHung calls Config.Evict. It does so beside the queue of the store's calls: the
// user's code may take as long as it likes. A call that has not returned is not repeated.
func (a *actor) evictHung(o op, gone <-chan struct{}) {
	if !a.evictor.busy.CompareAndSwap(false, true) {
		go a.deliver(result{op: o, err: errEvictHangs}, gone)
		return
	}
	limit := a.core.ttl - a.core.margin
	go func() {
		res := result{op: o, err: a.callEvict(o.hung, limit)}
		a.deliver(res, gone)
	}()
}

func (a *actor) callEvict(hung *Status, limit time.Duration) error {
	defer a.evictor.busy.Store(false)
	ctx, cancel := context.WithTimeout(a.ctx, limit)
	defer cancel()
	if err := a.evictor.evict(ctx, *hung); err != nil {
		return evictError(hung, err)
	}
	return nil
}

// evictError is one of those after which trying again can help: the owner may continue,
// or end, at any time.
func evictError(hung *Status, err error) error {
	r := &hung.Record
	return unavailable{fmt.Errorf("evict the hung owner (instance %s, pid %d on %s): %w", r.InstanceID, r.PID, r.Host, err)}
}

// attempts reports whether an attempt to acquire the lease is under way.
func (c *core) attempts() bool { return c.state == StateAcquiring || c.state == StateEvicting }

// evictBy is when an Evict that has not returned is given up. Its context has ended a
// margin before.
func (c *core) evictBy() time.Duration { return c.issued + c.ttl }

// classifyHung classifies an attempt that has found a hung owner. It is not evicted again
// and again: where Evict has returned nil just before, and it is still there, Evict has
// failed.
func classifyHung(o *op, hung *Status) event {
	if o.hung != nil && o.hung.Record.InstanceID == hung.Record.InstanceID {
		return evFailed
	}
	return evHung
}

// issueFor starts an operation that is about a hung owner.
func (d *decision) issueFor(hung *Status, kind opKind, at time.Duration) {
	d.issue(kind, at)
	d.start.hung = hung
	d.pending = d.start
}

// evictionFailed says why, and sees to it that the next attempt comes a full poll later,
// counted from now: an Evict that fails may have done much.
func (d *decision) evictionFailed(from State, in *input) {
	switch {
	case in.kind == inputTick:
		d.err = errEvictHangs
	case in.res.hung != nil:
		d.err = evictError(in.res.hung, errStillThere)
	case from != StateEvicting:
		return
	}
	d.looked, d.backoff = in.at, d.poll
}

var (
	errEvictHangs = unavailable{errors.New("evict the hung owner: Evict has not returned in time")}
	errStillThere = errors.New("after Evict has returned nil, the hung process still holds the alive lock")
)
