package owner

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ownerlease/owner/internal/disk"
)

// hints is what an instance hears of its lease: that there is reason to look, no
// more. The subscription is for one holder, as the end of a process is one of the
// things that it tells of, and begins anew with another.
type hints struct {
	store   Store
	trouble func(error)   // is told once when hints will be missing
	given   chan struct{} // has room for one: how many there were does not matter

	standing bool        // is to have a place in line
	lot      int         // drawn once, see farBehind
	behind   atomic.Bool // another instance is first in line: one hint is enough, for a look later on
	over     atomic.Bool // that hint was given: the subscription has ended by itself

	mu     sync.Mutex
	place  disk.Lock // the first in line, if it is ours
	holder string    // the instance that the subscription is for
	pid    int       // its process
	stop   func()    // nil before the first subscription
	steady bool      // the subscription is for any holder
	less   bool      // and of successors only
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

// readLease looks at the lease, and follows the instance that owns it: with another readLease
// where the hints have only just begun, as nothing tells what happened before.
func (h *hints) readLease(ctx context.Context) (View, error) {
	if h.over.Load() {
		h.resubscribe(h.subscription())
	}
	for {
		view, err := h.store.Look(ctx)
		if err == nil {
			h.lineUp(!view.Free())
		}
		if err != nil || !h.resubscribe(&view.Holder) {
			return view, err
		}
	}
}

// resubscribe subscribes to what happens to the lease of this holder, and reports
// whether that is new. Where it has no owner, any subscription will do.
func (h *hints) resubscribe(holder *Record) (fresh bool) {
	if h.subscribed(holder) {
		return false
	}
	// Outside the lock: it may take its time.
	h.over.Store(false)
	less := h.farBehind()
	stop, steady, err := h.watch(*holder, less)
	if stop == nil { // a store may return no more than the error
		stop = func() {}
	}
	// The old one ends after the new one has begun, so that what both share stays.
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

// subscribed reports whether there is nothing to subscribe to.
func (h *hints) subscribed(holder *Record) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Without a PID, its record has gone; its process may be there.
	same := h.steady || h.holder == holder.InstanceID && (h.pid == holder.PID || holder.PID == 0)
	return h.ended || h.stop != nil && !h.over.Load() && h.less == h.farBehind() && (same || holder.InstanceID == "")
}

// subscription is what is known of the holder that the subscription is for.
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

// end stops the hints. None begins after it.
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
