package owner

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner/internal/disk"
)

// soon is the shortest time from a look or a renewal to one that a hint asks for,
// so that a storm of hints cannot make a process spin.
const soon = time.Millisecond

// slowPoll is the longest time from a look at another's lease to the next,
// for what the hints miss.
func slowPoll(ttl time.Duration) time.Duration {
	return min(max(ttl/10, minTTL), time.Second)
}

// restPoll is the same where nothing is known to be missing of the hints.
func restPoll(ttl time.Duration) time.Duration {
	return min(max(ttl/10, minTTL), 3*time.Second)
}

// pacing says when to look at another's lease again: soon after something
// may have happened, then less and less often, and when the lease runs out.
type pacing struct {
	looked  time.Duration // when the last look or attempt was begun
	backoff time.Duration // from there to the next
	until   time.Duration // when the holder's lease runs out, as far as it is known

	behind bool          // another instance is first in line
	far    bool          // and others are behind that one: a hint tells of a successor
	aside  bool          // that one, or another, is to acquire: no hint brings the next look forward
	after  time.Duration // no look comes before, while aside
	missed bool          // a hint came during that look, which may not have seen what it tells
}

// lookAt is when the next look is due. A lease that was over at the last look and
// still could not be taken is no reason to look again at once.
func (p *pacing) lookAt() time.Duration {
	at := p.looked + p.backoff
	if p.until > p.looked {
		at = min(at, p.until)
	}
	if p.aside {
		at = max(at, p.after)
	}
	return at
}

// hurry is for a hint: what it tells of may take a moment to be seen, as the end
// of a process does before its locks are freed.
func (p *pacing) hurry() { p.backoff = soon }

// hint is a hint that came at this time, perhaps while a look was under way.
func (p *pacing) hint(at, pause time.Duration, looking bool) {
	switch {
	case p.aside:
		p.missed = p.missed || looking
	case p.behind && p.far:
		p.stepAside(at, 0) // to one look at the successor
	case p.behind:
		p.stepAside(at, pause)
	default:
		p.hurry()
	}
}

// slowDown is for a look that was in vain. What was told before this instance stepped
// aside can be seen by now: no reason to look again soon.
func (p *pacing) slowDown(poll time.Duration) {
	p.backoff = min(2*p.backoff, poll)
	if p.aside {
		p.backoff, p.aside = poll, false
	}
	if p.missed {
		p.backoff, p.missed = soon, false
	}
}

// stepAside lets another instance acquire. What that does gives hints, and one look
// afterwards is the answer to all of them.
func (p *pacing) stepAside(at, pause time.Duration) {
	p.backoff, p.aside, p.after = soon, true, at+pause
}

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

// look looks at the lease, and follows the instance that owns it: with another look
// where the hints have only just begun, as nothing tells what happened before.
func (h *hints) look(ctx context.Context) (View, error) {
	if h.over.Load() {
		h.follow(h.followed())
	}
	for {
		view, err := h.store.Look(ctx)
		if err == nil {
			h.lineUp(!view.Free())
		}
		if err != nil || !h.follow(&view.Holder) {
			return view, err
		}
	}
}

// follow subscribes to what happens to the lease of this holder, and reports
// whether that is new. Where it has no owner, any subscription will do.
func (h *hints) follow(holder *Record) (fresh bool) {
	if h.follows(holder) {
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

// follows reports whether there is nothing to subscribe to.
func (h *hints) follows(holder *Record) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Without a PID, its record has gone; its process may be there.
	same := h.steady || h.holder == holder.InstanceID && (h.pid == holder.PID || holder.PID == 0)
	return h.ended || h.stop != nil && !h.over.Load() && h.less == h.farBehind() && (same || holder.InstanceID == "")
}

// followed is what is known of the holder that the subscription is for.
func (h *hints) followed() *Record {
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
