package owner

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ownerlease/owner/internal/disk"
)

// hints receives a store's hints, each of which says only that the lease may have
// changed. The subscription is for one holder, as it reports the end of that one's
// process, and is renewed for another.
type hints struct {
	store   Store
	trouble func(error)      // called once, when hints will be missing
	named   func(*View) bool // whether a read names this standby as the successor; nil: there is none
	given   chan struct{}    // has room for one: how many there were does not matter

	standing bool        // a standby, which may have a place in line
	lot      int         // drawn once, see farBehind
	behind   atomic.Bool // another instance is first in line: one hint is enough, for a later poll
	over     atomic.Bool // that hint was given: the subscription has ended by itself

	mu     sync.Mutex
	place  disk.Lock // the first in line, if it is ours
	holder string    // the instance that the subscription is for
	pid    int       // its process
	stop   func()    // nil before the first subscription
	steady bool      // the subscription is for any holder
	less   bool      // the subscription is for successors only
	whole  bool      // no hint is known to be missing
	ended  bool
}

func (h *hints) give() {
	select {
	case h.given <- struct{}{}:
	default:
	}
}

// giveUntil is give for a store that keeps a line.
func (h *hints) giveUntil() (last bool) {
	last = h.behind.Load()
	if last {
		h.over.Store(true)
	}
	h.give()
	return last
}

// readLease reads the lease, and subscribes to the instance that owns it. After a new
// subscription it reads again, as no hint reports what happened before.
func (h *hints) readLease(ctx context.Context) (View, error) {
	if h.over.Load() {
		h.resubscribe(h.subscription())
	}
	for {
		view, err := h.store.Look(ctx)
		if err == nil {
			h.lineUp(!view.Free())
			if h.named != nil && h.named(&view) {
				h.behind.Store(false) // it is its turn, whatever its place in line
			}
		}
		if err != nil || !h.resubscribe(&view.Holder) {
			return view, err
		}
	}
}

// resubscribe subscribes to what happens to the lease of this holder, and reports
// whether that is new. Where the lease has no owner, any subscription will do.
func (h *hints) resubscribe(holder *Record) (fresh bool) {
	if h.subscribed(holder) {
		return false
	}
	// Outside the lock: it may take long.
	h.over.Store(false)
	less := h.farBehind()
	stop, steady, err := h.watch(*holder, less)
	if stop == nil { // a store may return no more than the error
		stop = func() {}
	}
	// The old one ends after the new one has begun, so that what both share stays open.
	if old := h.replace(holder, stop, steady, less, err == nil); old != nil {
		old()
	}
	if err != nil && h.trouble != nil {
		h.trouble(err)
		h.trouble = nil
	}
	return true
}

// watch subscribes. steady says that the subscription is for any holder.
func (h *hints) watch(holder Record, less bool) (stop func(), steady bool, err error) {
	if s, ok := h.store.(lined); ok && h.standing {
		return s.watchUntil(holder, less, h.giveUntil)
	}
	stop, err = h.store.Watch(holder, h.give)
	return stop, false, err
}

// subscribed reports whether no new subscription is needed.
func (h *hints) subscribed(holder *Record) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Without a PID, the holder's record is missing; its process may still run.
	same := h.steady || h.holder == holder.InstanceID && (h.pid == holder.PID || holder.PID == 0)
	return h.ended || h.stop != nil && !h.over.Load() && h.less == h.farBehind() && (same || holder.InstanceID == "")
}

// subscription returns the id and the pid of the holder that the subscription is for.
func (h *hints) subscription() *Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &Record{InstanceID: h.holder, PID: h.pid}
}

// replace takes the new subscription, and returns the one to be stopped.
func (h *hints) replace(holder *Record, stop func(), steady, less, whole bool) (old func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return stop
	}
	old = h.stop
	h.holder, h.pid, h.stop, h.steady, h.less, h.whole = holder.InstanceID, holder.PID, stop, steady, less, whole
	return old
}

// areWhole reports whether no hint is known to be missing.
func (h *hints) areWhole() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.whole
}

// end stops the hints. No subscription begins after it.
func (h *hints) end() {
	h.mu.Lock()
	stop, place := h.stop, h.place
	h.stop, h.place, h.ended = nil, nil, true
	h.mu.Unlock()
	leaveLine(place)
	if stop != nil {
		stop()
	}
}
