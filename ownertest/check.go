package ownertest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner"
)

// long is the TTL of leases that must not expire.
const long = time.Minute

// A check is a subtest, on its own lease.
type check struct {
	*testing.T
	*suite
	store owner.Store // the one under test, tracked
	made  owner.Store // as newStore has made it

	mu        sync.Mutex
	abandoned []owner.Lease // to be released when the test is over
}

// claim returns a new instance's claim.
func claim(ttl time.Duration) owner.Record {
	return owner.Record{
		InstanceID: uuid.NewString(), PID: os.Getpid(), Host: "host.example", TTL: ttl,
		Meta: map[string]string{
			owner.EndpointMetaKey: "unix:/run/x y.sock",
			"":                    "no key",
			"no value":            "",
			"k\"e=y/":             "<&>\\ \u2028\n\t\x00 é 漢字 😀",
			"large":               strings.Repeat("x", 2000),
		},
	}
}

// returns calls f, which is to return soon.
func (c *check) returns(what string, f func()) {
	c.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	c.await(what, done)
}

// await waits for a condition that must hold soon.
func (c *check) await(what string, done <-chan struct{}) {
	c.Helper()
	limit := time.NewTimer(c.patience)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		c.Fatalf("%s: not within %v", what, c.patience)
	}
}

// A tracked store counts what is open: calls that have not returned, and leases that
// were won and not released.
type tracked struct {
	owner.Store
	open atomic.Int64
}

func (s *tracked) String() string {
	if named, ok := s.Store.(fmt.Stringer); ok {
		return named.String()
	}
	return "the lease under test"
}

func (s *tracked) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	s.open.Add(1)
	acq, err := s.Store.Acquire(ctx, claim)
	if acq.Lease == nil {
		s.open.Add(-1)
		return acq, err
	}
	acq.Lease = &trackedLease{acq.Lease, s}
	return acq, err
}

func (s *tracked) Look(ctx context.Context) (owner.View, error) {
	s.open.Add(1)
	defer s.open.Add(-1)
	return s.Store.Look(ctx)
}

type trackedLease struct {
	owner.Lease
	store *tracked
}

func (l *trackedLease) Release(ctx context.Context) error {
	defer l.store.open.Add(-1)
	return l.Lease.Release(ctx)
}

// settle waits until nothing of the test is left in the store: a call that an Owner has
// abandoned ends when it can.
func (c *check) settle(s *tracked) {
	for limit := time.Now().Add(c.patience); s.open.Load() != 0; time.Sleep(time.Millisecond) {
		c.releaseAbandoned()
		if time.Now().After(limit) {
			c.Errorf("%d calls of the store, or leases that were won, have not come to an end within %v", s.open.Load(), c.patience)
			return
		}
	}
}

func (c *check) releaseAbandoned() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.abandoned {
		_ = l.Release(context.Background())
	}
	c.abandoned = nil
}

// A tenure is an ownership that was won. It is released at the end of the test, if
// not before.
type tenure struct {
	owner.Acquisition
	c        *check
	valid    time.Duration // until when no other may own
	released bool
}

// attempt tries to take the lease, and returns what has been won, nil if another
// owns it.
func (c *check) attempt(claim owner.Record) (*tenure, owner.Record) {
	c.Helper()
	var acq owner.Acquisition
	var err error
	c.returns("Acquire", func() { acq, err = c.store.Acquire(c.Context(), claim) })
	if err != nil {
		c.Fatalf("Acquire: %v", err)
	}
	if acq.Lease == nil {
		if acq.Holder.InstanceID == "" || acq.Holder.InstanceID == claim.InstanceID {
			c.Errorf("Acquire has not won, and names no other holder: %+v", acq.Holder)
		}
		return nil, acq.Holder
	}
	return c.won(acq, claim.TTL), acq.Holder
}

// won takes care of an ownership.
func (c *check) won(acq owner.Acquisition, ttl time.Duration) *tenure {
	h := &tenure{Acquisition: acq, c: c, valid: acq.From + ttl}
	c.Cleanup(func() {
		if !h.released {
			h.release()
		}
	})
	return h
}

// take takes a lease that is free.
func (c *check) take(ttl time.Duration) *tenure {
	c.Helper()
	h, holder := c.attempt(claim(ttl))
	if h == nil {
		c.Fatalf("Acquire: the lease is free, but %s is named as its owner (epoch %d)", holder.InstanceID, holder.Epoch)
	}
	return h
}

// refused tries to take a lease that another owns.
func (c *check) refused(holder *tenure) {
	c.Helper()
	h, named := c.attempt(claim(long))
	if h != nil {
		c.Fatalf("Acquire has won a lease that another owns: epoch %d after %d", h.Holder.Epoch, holder.Holder.Epoch)
	}
	c.same("the holder that Acquire names", named, holder.Holder)
}

// succeed acquires the lease as soon as it has expired, and not before.
func (c *check) succeed(before *tenure, ttl time.Duration) *tenure {
	c.Helper()
	next := claim(ttl)
	for deadline := time.Now().Add(time.Until(c.endOf(before)) + c.patience); time.Now().Before(deadline); time.Sleep(500 * time.Microsecond) {
		h, holder := c.attempt(next)
		if h == nil && holder.InstanceID != before.Holder.InstanceID {
			c.Fatalf("Acquire names %s, and %s owns", holder.InstanceID, before.Holder.InstanceID)
		}
		if h == nil {
			continue
		}
		if now := c.store.Now(); now < before.valid {
			c.Errorf("won %v before the other's lease had expired", before.valid-now)
		}
		if h.Holder.Epoch <= before.Holder.Epoch {
			c.Errorf("the epoch is %d, and was %d before", h.Holder.Epoch, before.Holder.Epoch)
		}
		return h
	}
	c.Fatalf("the lease is still owned %v after it has expired", c.store.Now()-before.valid)
	return nil
}

// endOf is when the lease expires, by Go's clock.
func (c *check) endOf(h *tenure) time.Time { return time.Now().Add(h.valid - c.store.Now()) }

// renew renews a lease.
func (h *tenure) renew() error {
	h.c.Helper()
	var err error
	at := h.c.store.Now()
	h.c.returns("Renew", func() { err = h.Lease.Renew(h.c.Context(), at) })
	if err == nil {
		h.valid = at + h.Holder.TTL
	}
	return err
}

// release releases the lease. Its context is not the test's, which ends before the test's
// cleanup.
func (h *tenure) release() error {
	h.c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), h.c.patience)
	defer cancel()
	return h.releaseWith(ctx)
}

func (h *tenure) releaseWith(ctx context.Context) error {
	h.c.Helper()
	h.released = true
	var err error
	h.c.returns("Release", func() { err = h.Lease.Release(ctx) })
	return err
}

// must fails the test.
func (c *check) must(what string, err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

// look reads the lease.
func (c *check) look() owner.View {
	c.Helper()
	var view owner.View
	var err error
	c.returns("Look", func() { view, err = c.store.Look(c.Context()) })
	c.must("Look", err)
	return view
}

// owned checks that others see who owns the lease, and a time until which it lasts at least.
func (c *check) owned(h *tenure) {
	c.Helper()
	view := c.look()
	if view.Free() {
		if c.store.Now() < h.valid { // else the machine is slow
			c.Fatalf("Look: the lease is free, and epoch %d owns it", h.Holder.Epoch)
		}
		return
	}
	c.same("the holder that Look names", view.Holder, h.Holder)
	if view.Until != 0 && view.Until < h.valid {
		c.Errorf("Look: the lease lasts until %v, and its owner counts on %v more", view.Until, h.valid-view.Until)
	}
}

// same compares two records of the same ownership.
func (c *check) same(what string, got, want owner.Record) {
	c.Helper()
	if off := got.AcquiredAt.Sub(want.AcquiredAt).Abs(); off > time.Second {
		c.Errorf("%s: acquired at %v, want %v", what, got.AcquiredAt, want.AcquiredAt)
	}
	if !maps.Equal(got.Meta, want.Meta) {
		c.Errorf("%s: got the metadata %q, want %q", what, got.Meta, want.Meta)
	}
	if got.InstanceID != want.InstanceID || got.PID != want.PID || got.Host != want.Host || got.Epoch != want.Epoch ||
		got.TTL != want.TTL || got.Released != want.Released {
		got.Meta, want.Meta = nil, nil
		c.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}
