package contend

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/history"
)

// A Contender is a standby, owns the lease, and does so again after a loss.
type Contender[L Link] struct {
	Name string
	Link L
	Spy  *Spy

	trial *Trial[L]
	leave context.CancelFunc
	gone  chan struct{}
	once  atomic.Bool // it does not come back when it has owned

	present atomic.Pointer[owner.Owner] // while it owns
	lost    chan *owner.LostError       // its losses
	yield   chan chan time.Duration     // asks it to release, and gets the time before
}

func (tr *Trial[L]) newContender(store owner.Store, link L) *Contender[L] {
	return &Contender[L]{
		Link: link, Spy: &Spy{Store: store},
		trial: tr, Name: fmt.Sprintf("contender %d", len(tr.Contenders)), gone: make(chan struct{}),
		lost: make(chan *owner.LostError, 100), yield: make(chan chan time.Duration),
	}
}

// compete runs until ctx ends.
func (c *Contender[L]) compete(ctx context.Context) {
	defer close(c.gone)
	for ctx.Err() == nil && !c.live(ctx) {
		pause(ctx, 20*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Owns reports whether the contender owns the lease.
func (c *Contender[L]) Owns() bool {
	o := c.present.Load()
	return o != nil && o.IsOwner()
}

// Present is its Owner, while it owns the lease; nil otherwise.
func (c *Contender[L]) Present() *owner.Owner { return c.present.Load() }

// OwnsOnce makes it leave when it has owned.
func (c *Contender[L]) OwnsOnce() { c.once.Store(true) }

// Losses is how many losses Loses has not returned.
func (c *Contender[L]) Losses() int { return len(c.lost) }

// Loses waits until the contender has lost the lease.
func (c *Contender[L]) Loses() *owner.LostError {
	c.trial.Helper()
	Await(c.trial, "a loss", func() bool { return len(c.lost) > 0 })
	return <-c.lost
}

// Releases has the owner release, and returns when that began.
func (c *Contender[L]) Releases() time.Duration {
	c.trial.Helper()
	began := make(chan time.Duration, 1)
	select {
	case c.yield <- began:
		return <-began
	case <-time.After(c.trial.TTL):
		c.trial.Fatalf("%s does not own the lease", c.Name)
		return 0
	}
}

// Leaves has the contender leave, and waits until it has.
func (c *Contender[L]) Leaves() {
	c.leave()
	c.Link.Heal()
	<-c.gone
}

// live is one membership. It reports whether it was the last.
func (c *Contender[L]) live(ctx context.Context) (last bool) {
	t := history.Tenure{Lease: c.trial.Key, By: c.Name, Sought: c.trial.Now(), Margin: c.trial.TTL / 4}
	t.Joined = t.Sought
	defer func() { c.trial.tell(t) }()
	// Its life does not end with ctx, so that it leaves as an owner does.
	o, err := owner.Join(context.Background(), owner.Config{
		Store: c.Spy, TTL: c.trial.TTL, SafetyMargin: t.Margin, RenewInterval: c.trial.TTL / 12, Standby: true,
	})
	if err != nil {
		if !errors.Is(err, owner.ErrUnavailable) {
			c.trial.Errorf("%s: %v", c.Name, err)
		}
		t.Over = c.trial.Now()
		return false
	}
	defer func() {
		_ = o.Release()
		<-o.Done()
	}()
	select {
	case <-o.Elected():
		c.own(ctx, o, &t)
		return c.once.Load()
	case <-ctx.Done():
		t.Over = c.trial.Now()
		return true
	}
}

// own owns, until the ownership ends or is to be released.
func (c *Contender[L]) own(ctx context.Context, o *owner.Owner, t *history.Tenure) {
	c.present.Store(o)
	t.Instance, t.Epoch = o.InstanceID(), o.Epoch()
	t.Sought = max(t.Sought, time.Duration(c.Spy.sought.Load()))
	began, lost := c.hold(ctx, o, t)
	c.present.Store(nil)
	if lost {
		c.lose(o, t)
	} else {
		t.Freed, t.End = c.trial.Now(), history.Released
		if began != nil {
			began <- t.Freed
		}
		if err := o.Release(); err != nil && !c.trial.Stormy {
			c.trial.Errorf("%s: %v", c.Name, err)
		}
	}
	for range 3 { // the answer must stay no
		c.ask(o, t)
	}
	// A lost lease is held until it expires, unless it is released before.
	for lost && c.trial.Now() < t.Expiry {
		time.Sleep(time.Millisecond)
	}
}

// hold asks IsOwner again and again until it returns false, or until the lease is to be
// released.
func (c *Contender[L]) hold(ctx context.Context, o *owner.Owner, t *history.Tenure) (began chan time.Duration, lost bool) {
	for c.ask(o, t) {
		select {
		case <-ctx.Done():
			return nil, false
		case began := <-c.yield:
			return began, false
		case <-time.After(time.Millisecond):
		}
	}
	return nil, true
}

// ask asks IsOwner. The answer was true at some moment between the two readings of
// the clock.
func (c *Contender[L]) ask(o *owner.Owner, t *history.Tenure) bool {
	asked := c.trial.Now()
	owns := o.IsOwner()
	answered := c.trial.Now()
	t.Expiry = c.Spy.Expires()
	switch {
	case owns:
		if t.Owned == 0 {
			t.Owned = answered
		}
		t.Valid = asked
	case t.Over == 0:
		t.Over = answered
	}
	return owns
}

// lose records a loss that the owner had to notice at once. A slow machine cannot be
// distinguished from a missing notification, so what counts is how often the contender
// could ask meanwhile.
func (c *Contender[L]) lose(o *owner.Owner, t *history.Tenure) {
	asked := 0
	for told := false; !told; asked++ {
		select {
		case <-o.Lost():
			told = true
		case <-time.After(time.Millisecond):
		}
	}
	var lost *owner.LostError
	if !errors.As(o.LostErr(), &lost) {
		c.trial.Errorf("%s: %v", c.Name, o.LostErr())
		return
	}
	switch {
	case errors.Is(lost, owner.ErrTakenOver):
		t.End = history.TakenOver
	case errors.Is(lost, owner.ErrRevoked):
		t.End = history.Revoked
	default:
		// It would have said yes until then.
		t.Valid = max(t.Valid, min(t.Expiry-t.Margin, t.Over))
		t.End = history.Expired
	}
	if asked > 200 {
		c.trial.Errorf("%s had to ask %d times before it noticed its loss: %v", c.Name, asked, lost)
	}
	c.trial.Logf("%s: %v", c.Name, lost)
	c.lost <- lost
}
