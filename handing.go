package owner

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// handing is what the decision knows of requests to step down. An owner that is asked
// keeps the lease: only its caller can release it. A standby may be named as the
// successor: the others then give it a head start. That is timing only: which of them
// owns, the store decides as ever.
type handing struct {
	offered bool // the store keeps requests
	check   bool // an owner: a request may have come since it was last read
	asked   bool // an owner: one has come

	turn    turn          // a standby: who is to own next, as far as is known
	waiting bool          // a standby: the lease is free, and another is to own next
	freeAt  time.Duration // since when, while waiting
}

// A turn says who the holder was asked to hand over to.
type turn int

const (
	anyTurn    turn = iota // any standby, or it was not asked
	ownTurn                // this one
	othersTurn             // another
)

// longestHeadStart is how long a standby leaves a free lease to the one that is named as the
// successor. It is longer than a standby that is not the first in line takes to read.
const longestHeadStart = 100 * time.Millisecond

func headStart(ttl time.Duration) time.Duration {
	return min(longestHeadStart, maxPollInterval(ttl))
}

// stayAway is for how many head starts an instance that has stepped down leaves the lease to
// others: a named successor that has gone costs the other standbys one.
const stayAway = 3

// letSucceed returns when another instance owns, or could have come to, or with the cause of
// ctx's end.
func (cfg *Config) letSucceed(ctx context.Context) error {
	s := cfg.Store
	if s == nil {
		files, err := openLease(cfg.LeasePath)
		if err != nil {
			return err
		}
		s = files
	}
	away, end := context.WithTimeout(ctx, stayAway*headStart(cfg.TTL))
	defer end()
	for view, err := range views(away, s) {
		if err == nil && !view.Free() {
			break
		}
	}
	return context.Cause(ctx)
}

// askEvery is how often an owner reads whether it is asked although no hint has come: at
// every sixteenth operation. A hint can be missing without anything that shows it.
const askEvery = 16

// isToAsk reports whether to read, after a renewal, whether there is a request.
func (h *handing) isToAsk(hinted bool, id uint64) bool {
	return h.offered && !h.asked && (h.check || !hinted || id%askEvery == 0)
}

// leaves reports whether a standby leaves a lease that it has found free to another. What
// a free lease shows counts before what was known earlier: some stores show it no more.
func (h *handing) leaves(shown turn, now, head time.Duration) bool {
	if shown == anyTurn {
		shown = h.turn
	}
	return shown == othersTurn && (!h.waiting || now < h.freeAt+head)
}

// saw takes up what a read has shown that has not led to an acquisition.
func (h *handing) saw(free bool, shown turn, now time.Duration) {
	switch {
	case !free:
		h.turn, h.waiting = shown, false
	case !h.waiting:
		h.waiting, h.freeAt = true, now
	}
}

// succeeded is for a lease that has another owner: who was to own next no longer matters.
func (h *handing) succeeded() { h.turn, h.waiting = anyTurn, false }

// turnOf says who is to own next by a read of this standby.
func (a *actor) turnOf(v *View) turn {
	switch {
	case !v.HandoverRequested || v.Successor == "":
		return anyTurn
	case a.isNamed(v):
		return ownTurn
	}
	return othersTurn
}

func (a *actor) isNamed(v *View) bool {
	return v.HandoverRequested && v.Successor != "" && v.Successor == a.snap.Load().claims
}

// readHandover reads whether this owner is asked to step down. It ends early enough for the
// renewals behind it.
func (a *actor) readHandover(res *result) error {
	ctx, cancel := context.WithTimeoutCause(a.ctx, a.ttl/4, errors.New("the store has not answered within a quarter of the TTL"))
	defer cancel()
	view, err := a.store.Look(ctx)
	if err != nil {
		return err
	}
	res.asked = view.HandoverRequested && view.Holder.InstanceID == a.snap.Load().holder.InstanceID
	return nil
}

// settleHandover tells the caller that this owner is asked to step down.
func (a *actor) settleHandover(before *core) {
	if a.core.asked && !before.asked {
		a.requested.set()
		a.notices.asked()
	}
}

// A latch is a channel that is closed once. It takes a word until that is asked for.
type latch struct{ c atomic.Pointer[chan struct{}] }

func (l *latch) done() <-chan struct{} {
	for {
		if c := l.c.Load(); c != nil {
			return *c
		}
		c := make(chan struct{})
		if l.c.CompareAndSwap(nil, &c) {
			return c
		}
	}
}

func (l *latch) set() {
	if c := l.c.Swap(&closedChan); c != nil && c != &closedChan {
		close(*c)
	}
}
