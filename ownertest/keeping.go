package ownertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
)

// The promises of a store: who owns the lease, and until when.

// A reading is never below one that another goroutine has had before, and time passes
// as it does for Go's timers.
func clock(c *check) {
	began := time.Now()
	first := c.store.Now()
	inner := time.Now()
	var highest atomic.Int64
	highest.Store(int64(first))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10_000 {
				before := highest.Load()
				now := int64(c.store.Now())
				if now < before {
					c.Errorf("Now has gone back by %v", time.Duration(before-now))
					return
				}
				for now > before && !highest.CompareAndSwap(before, now) {
					before = highest.Load()
				}
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Until(began.Add(500 * time.Millisecond)))
	least := time.Since(inner)
	passed := c.store.Now() - first
	most := time.Since(began)
	const coarse = 20 * time.Millisecond // as the steps of some clocks
	if passed < least-least/100-coarse || passed > most+most/100+coarse {
		c.Errorf("Now has moved by %v within %v", passed, most)
	}
}

// The record is complete, and the first TTL counts from within the call.
func acquire(c *check) {
	rec := claim(long)
	began := time.Now()
	h, _ := c.attempt(rec)
	if h == nil {
		c.Fatal("Acquire has not won a lease that is free")
	}
	if now := c.store.Now(); h.From > now {
		c.Errorf("From is %v later than the clock after the call", h.From-now)
	}
	if h.Holder.Epoch == 0 {
		c.Error("the epoch is 0")
	}
	for what, at := range map[string]time.Time{"AcquiredAt": h.Holder.AcquiredAt, "RenewedAt": h.Holder.RenewedAt} {
		if at.Before(began.Add(-time.Minute)) || at.After(time.Now().Add(time.Minute)) {
			c.Errorf("%s is %v, and it is %v", what, at, time.Now())
		}
	}
	rec.Epoch, rec.AcquiredAt = h.Holder.Epoch, h.Holder.AcquiredAt
	c.same("the owner's record", h.Holder, rec)
	c.owned(h)
	c.must("Release", h.release())
	rec = claim(long)
	rec.Meta = nil
	if h, _ = c.attempt(rec); h == nil {
		c.Fatal("Acquire has not won a lease that was released")
	}
	rec.Epoch, rec.AcquiredAt = h.Holder.Epoch, h.Holder.AcquiredAt
	c.same("the record of an owner without metadata", h.Holder, rec)
	c.owned(h)
}

// A lease that is owned is not acquired, however often it is tried, and each try returns
// the owner.
func held(c *check) {
	h := c.take(long)
	for range 5 {
		c.refused(h)
		c.owned(h)
	}
	c.must("Renew", h.renew())
	c.refused(h)
}

// A lease that was released is free at once.
func release(c *check) {
	for range 5 {
		h := c.take(long)
		c.must("Renew", h.renew())
		c.must("Release", h.release())
		if view := c.look(); !view.Free() {
			c.Fatalf("Look: %s owns a lease that was released", view.Holder.InstanceID)
		}
	}
}

// The epoch grows, whatever has ended the ownership before, and whichever instance tries.
func epochs(c *check) {
	last := uint64(0)
	next := func(h *tenure) *tenure {
		if h.Holder.Epoch <= last {
			c.Errorf("the epoch is %d, and was %d before", h.Holder.Epoch, last)
		}
		last = h.Holder.Epoch
		return h
	}
	for range 3 {
		h := next(c.take(long))
		c.refused(h)
		c.must("Release", h.release())
	}
	h := next(c.succeed(next(c.take(c.ttl)), c.ttl))
	h.release() // too late or not, it is free afterwards
	h = next(c.take(c.ttl))
	c.sleepUntil(h.valid + c.ttl)
	h = next(c.succeed(h, long))
	c.must("Release", h.release())
	next(c.take(long))
}

// sleepUntil waits for the store's clock.
func (c *check) sleepUntil(at time.Duration) {
	for now := c.store.Now(); now < at; now = c.store.Now() {
		time.Sleep(at - now)
	}
}

// Of many that try at once, one wins, and the others get its record.
func race(c *check) {
	last := uint64(0)
	for range 8 {
		h, _ := c.raceFor("")
		if h.Holder.Epoch <= last {
			c.Errorf("the epoch is %d, and was %d before", h.Holder.Epoch, last)
		}
		last = h.Holder.Epoch
		c.must("Release", h.release())
	}
}

// The same, when the lease expires.
func raceForAnExpired(c *check) {
	before := c.take(c.ttl)
	h, at := c.raceFor(before.Holder.InstanceID)
	if h.Holder.Epoch <= before.Holder.Epoch {
		c.Errorf("the epoch is %d, and was %d before", h.Holder.Epoch, before.Holder.Epoch)
	}
	if at < before.valid {
		c.Errorf("won %v before the other's lease had expired", before.valid-at)
	}
}

// raceFor lets many try to acquire a lease until it has another owner than before. It
// returns the acquisition, and when.
func (c *check) raceFor(before string) (h *tenure, at time.Duration) {
	c.Helper()
	const many = 12
	var mu sync.Mutex
	var winners []owner.Acquisition
	named := map[string]int{}
	start := make(chan struct{})
	c.returns("a race", func() {
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() {
				mine := claim(long)
				<-start
				acq, err := c.store.Acquire(c.Context(), mine)
				for err == nil && acq.Lease == nil && acq.Holder.InstanceID == before && c.Context().Err() == nil {
					time.Sleep(time.Millisecond)
					acq, err = c.store.Acquire(c.Context(), mine)
				}
				now := c.store.Now()
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					c.Errorf("Acquire: %v", err)
				}
				if err == nil {
					named[acq.Holder.InstanceID]++
				}
				if acq.Lease != nil {
					winners, at = append(winners, acq), now
				}
			})
		}
		close(start)
		wg.Wait()
	})
	if len(winners) == 0 {
		c.Fatal("none has won")
	}
	for _, acq := range winners[1:] {
		_ = c.won(acq, long).release()
	}
	if len(winners) > 1 || len(named) > 1 {
		c.Errorf("of %d, %d have won, and the holders are said to be %v", many, len(winners), named)
	}
	return c.won(winners[0], long), at
}

// The owner's TTL counts, not that of an instance that wants the lease.
func ttlOfTheHolder(c *check) {
	h := c.take(2 * c.ttl)
	h = c.succeed(h, c.ttl) // with a shorter one
	c.succeed(h, long)      // with a longer one: in time, or its patience is at an end
}

// A renewal is good for a whole TTL from its beginning.
func renew(c *check) {
	for try := range 10 {
		h := c.take(c.ttl)
		var err error
		for range 3 {
			c.sleepUntil(h.valid - c.ttl/2)
			if err = h.renew(); err != nil {
				break
			}
			c.owned(h)
		}
		if err == nil {
			c.succeed(h, c.ttl)
			return
		}
		if c.store.Now() < h.valid {
			c.Fatalf("Renew: %v", err)
		}
		c.Logf("try %d: the machine was too slow to renew: %v", try, err)
		h.release()
	}
	c.Fatalf("the machine is too slow for a TTL of %v", c.ttl)
}

// An owner that has lost the lease to another gets an error, and changes nothing.
func renewAfterTakeover(c *check) {
	old := c.take(c.ttl)
	h := c.succeed(old, long)
	for range 2 {
		if err := old.renew(); !errors.Is(err, owner.ErrTakenOver) && !errors.Is(err, owner.ErrRevoked) {
			c.Errorf("Renew, of a lease that another has taken over: %v, want ErrTakenOver", err)
		}
		c.owned(h)
		c.refused(h)
		c.must("Renew, of the successor", h.renew())
	}
}

// An owner that has lost the lease to another releases its own, not the other's.
func releaseAfterLoss(c *check) {
	old := c.take(c.ttl)
	h := c.succeed(old, long)
	if err := old.release(); err != nil {
		c.Logf("Release, after the loss: %v", err) // as it may
	}
	c.owned(h)
	c.refused(h)
	c.must("Renew, of the successor", h.renew())
	c.must("Release, of the successor", h.release())
	c.take(long)
}

// A lease that has expired and has no other owner can be released.
func releaseAfterExpiry(c *check) {
	h := c.take(c.ttl)
	c.sleepUntil(h.valid)
	if err := h.release(); err != nil {
		c.Logf("Release, after the expiry: %v", err) // as it may
	}
	c.succeed(h, long)
}

// Look shows the owner, and does not acquire.
func look(c *check) {
	for range 3 {
		if view := c.look(); !view.Free() {
			c.Fatalf("Look: %s owns a lease that was never owned", view.Holder.InstanceID)
		}
	}
	h := c.take(c.ttl)
	for deadline := time.Now().Add(c.ttl + c.patience); ; time.Sleep(500 * time.Microsecond) {
		view := c.look()
		now := c.store.Now()
		switch {
		case view.Free() && now < h.valid:
			c.Fatalf("Look: the lease is free %v before it expires", h.valid-now)
		case view.Free():
			c.take(long)
			return
		case view.Until != 0 && view.Until < h.valid:
			c.Fatalf("Look: the lease lasts until %v, and its owner counts on %v more", view.Until, h.valid-view.Until)
		case time.Now().After(deadline):
			c.Fatalf("Look: the lease is owned %v after it has expired", now-h.valid)
		}
		c.same("the holder that Look names", view.Holder, h.Holder)
	}
}

// A context that has ended makes a call return, and does no harm.
func endedContexts(c *check) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	rec := claim(c.ttl)
	var acq owner.Acquisition
	var err error
	c.returns("Acquire, with a context that has ended", func() { acq, err = c.store.Acquire(ended, rec) })
	if err == nil && acq.Lease == nil {
		c.Errorf("Acquire names %+v, and the lease has no owner", acq.Holder)
	}
	if err == nil && acq.Lease != nil {
		c.must("Release", c.won(acq, rec.TTL).release())
	}
	h := c.eventually(long, rec.InstanceID)
	c.returns("Look, with a context that has ended", func() {
		if view, err := c.store.Look(ended); err == nil && view.Holder.InstanceID != h.Holder.InstanceID {
			c.Errorf("Look names %+v, and another owns", view.Holder)
		}
	})
	c.returns("Renew, with a context that has ended", func() { err = h.Lease.Renew(ended, c.store.Now()) })
	if errors.Is(err, owner.ErrTakenOver) || errors.Is(err, owner.ErrRevoked) {
		c.Errorf("Renew, with a context that has ended: %v", err)
	}
	c.must("Renew, after one whose context had ended", h.renew())
	c.owned(h)
	c.must("Release", h.release())
	h = c.take(c.ttl)
	if err := h.releaseWith(ended); err == nil {
		c.take(long)
		return
	}
	c.eventually(long, h.Holder.InstanceID)
}

// eventually takes a lease that is free, or is kept by no more than what calls of
// these instances have left behind.
func (c *check) eventually(ttl time.Duration, left ...string) *tenure {
	c.Helper()
	next := claim(ttl)
	for deadline := time.Now().Add(c.ttl + c.patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		h, holder := c.attempt(next)
		if h != nil {
			return h
		}
		if !slices.Contains(left, holder.InstanceID) {
			c.Fatalf("Acquire names %s, which has never owned", holder.InstanceID)
		}
	}
	c.Fatalf("what a call has left behind still keeps others out after %v", c.ttl+c.patience)
	return nil
}

// Whenever its context ends, Acquire has won, or blocks others for no longer than a TTL.
func cancelledAcquire(c *check) {
	began := time.Now()
	first := c.take(long)
	took := time.Since(began)
	c.must("Release", first.release())
	last := first.Holder.Epoch
	var tried []string
	for range 30 {
		rec := claim(c.ttl)
		tried = append(tried, rec.InstanceID)
		ctx, cancel := context.WithTimeout(context.Background(), rand.N(3*took+2)-took) // or it has ended already
		var acq owner.Acquisition
		var err error
		c.returns("Acquire, with a context that ends", func() { acq, err = c.store.Acquire(ctx, rec) })
		cancel()
		if err != nil || acq.Lease == nil {
			continue
		}
		h := c.won(acq, rec.TTL)
		if h.Holder.Epoch <= last {
			c.Errorf("the epoch is %d, and was %d before", h.Holder.Epoch, last)
		}
		last = h.Holder.Epoch
		c.must("Release", h.release())
	}
	h := c.eventually(long, tried...)
	if h.Holder.Epoch <= last {
		c.Errorf("the epoch is %d, and was %d before", h.Holder.Epoch, last)
	}
}
