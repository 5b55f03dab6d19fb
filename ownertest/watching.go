package ownertest

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
)

// What a store promises of hints.

// settled is how long a hint may still be under way when its cause is done. The suite
// waits that long where no hint may come: a later hint that it misses is no fault of a
// good store.
const settled = 50 * time.Millisecond

// A watch counts the hints that it gets.
type watch struct {
	c     *check
	given chan struct{} // has room for one
	stop  func()
}

// watch watches the lease, or skips the test where the store gives no hints.
func (c *check) watch(holder owner.Record) *watch {
	c.Helper()
	w := &watch{c: c, given: make(chan struct{}, 1)}
	w.stop = c.subscribe(holder, func() {
		select {
		case w.given <- struct{}{}:
		default:
		}
	})
	return w
}

// subscribe begins a subscription, which ends at the end of the test if not before.
func (c *check) subscribe(holder owner.Record, hint func()) (stop func()) {
	c.Helper()
	if c.noHints {
		c.Skip("the store gives no hints")
	}
	var end func()
	var err error
	c.returns("Watch", func() { end, err = c.store.Watch(holder, hint) })
	stop = sync.OnceFunc(func() {
		if end != nil {
			c.returns("stop", end)
		}
	})
	c.Cleanup(stop)
	if err != nil {
		c.Skipf("Watch: %v", err)
	}
	return stop
}

// settle forgets the hints of what has been.
func (w *watch) settle() {
	time.Sleep(settled)
	select {
	case <-w.given:
	default:
	}
}

// hinted waits for a hint.
func (w *watch) hinted(of string) {
	w.c.Helper()
	w.c.await("a hint of "+of, w.given)
}

// The changes of which there is a hint.
func hints(c *check) {
	w := c.watch(owner.Record{})
	w.settle()
	h := c.take(c.ttl)
	w.hinted("an acquisition")
	w.stop()

	w = c.watch(h.Holder)
	w.settle()
	h = c.succeed(h, long)
	w.hinted("a takeover")
	w.stop()

	w = c.watch(h.Holder)
	w.settle()
	c.must("Release", h.release())
	w.hinted("a release")
	c.take(long)
	w.hinted("an acquisition that follows")
}

// The watchers of a lease do not depend on each other.
func sharedHints(c *check) {
	h := c.take(long)
	first, second := c.watch(h.Holder), c.watch(h.Holder)
	first.stop()
	third := c.watch(h.Holder)
	second.settle()
	third.settle()
	c.must("Release", h.release())
	second.hinted("a release")
	third.hinted("a release")
}

// When stop returns, no hint is under way, and none follows.
func noHintAfterStop(c *check) {
	defer c.changeHands()()
	var late atomic.Int64
	for range 30 {
		var stopped atomic.Bool
		given := make(chan struct{})
		once := sync.OnceFunc(func() { close(given) })
		stop := c.subscribe(owner.Record{}, func() {
			if stopped.Load() {
				late.Add(1)
			}
			once()
		})
		c.await("a hint while the lease changes hands", given)
		stop()
		stopped.Store(true)
	}
	time.Sleep(settled)
	if n := late.Load(); n > 0 {
		c.Errorf("%d hints have come after stop had returned", n)
	}
}

// changeHands acquires and releases the lease without a pause, until end is called.
func (c *check) changeHands() (end func()) {
	var ended atomic.Bool
	var changing sync.WaitGroup
	changing.Go(func() {
		for !ended.Load() {
			acq, err := c.store.Acquire(context.Background(), claim(long))
			if err == nil && acq.Lease != nil {
				err = acq.Lease.Release(context.Background())
			}
			if err != nil {
				c.Errorf("Acquire or Release: %v", err)
				return
			}
		}
	})
	return func() {
		ended.Store(true)
		changing.Wait()
	}
}

// Watch leaves no goroutine behind. They are counted, as the store's own come and go.
func watchLeavesNothing(c *check) {
	const many = 100
	h := c.take(long)
	c.watch(h.Holder).stop() // what is made only once is made now
	before := runtime.NumGoroutine()
	for range many {
		c.watch(h.Holder).stop()
	}
	left := func() int { return runtime.NumGoroutine() - before }
	for deadline := time.Now().Add(c.patience); left() > many/2 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := left(); n > many/2 {
		c.Errorf("%d watches that were stopped have left %d goroutines behind", many, n)
	}
}
