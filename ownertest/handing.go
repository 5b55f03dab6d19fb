package ownertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner"
)

// What a store promises of requests to step down, if it is an owner.HandoverStore. The
// tests skip others.

// trackedHandover is a tracked store that keeps requests.
type trackedHandover struct {
	*tracked
	requests owner.HandoverStore
}

func (s *trackedHandover) RequestHandover(ctx context.Context, holder, successor string) error {
	s.open.Add(1)
	defer s.open.Add(-1)
	return s.requests.RequestHandover(ctx, holder, successor)
}

// request leaves a request with the present lease.
func (c *check) request(ctx context.Context, holder, successor string) error {
	c.Helper()
	s, ok := c.store.(owner.HandoverStore)
	if !ok {
		c.Skip("the store is no owner.HandoverStore")
	}
	var err error
	c.returns("RequestHandover", func() { err = s.RequestHandover(ctx, holder, successor) })
	return err
}

// asked leaves a request to h, and checks that it is shown and costs nothing.
func (c *check) asked(h *tenure, successor, shown string) {
	c.Helper()
	c.must("RequestHandover", c.request(c.Context(), h.Holder.InstanceID, successor))
	c.shows(h, shown)
	c.must("Renew, after RequestHandover", h.renew())
	c.shows(h, shown)
}

// shows checks that others see the request, and the owner as it was.
func (c *check) shows(h *tenure, successor string) {
	c.Helper()
	c.owned(h)
	if view := c.look(); !view.HandoverRequested || view.Successor != successor {
		c.Errorf("Look: a handover is requested: %v, for %q; want one for %q", view.HandoverRequested, view.Successor, successor)
	}
}

// notAsked checks that there is no request to h.
func (c *check) notAsked(h *tenure) {
	c.Helper()
	c.owned(h)
	if view := c.look(); view.HandoverRequested {
		c.Errorf("Look: a handover is requested of epoch %d, for %q, and was not", h.Holder.Epoch, view.Successor)
	}
}

// A request is shown until the ownership ends, and one counts.
func handoverRequest(c *check) {
	first, second := uuid.NewString(), uuid.NewString()
	h := c.take(long)
	c.notAsked(h)
	c.asked(h, "", "")
	c.asked(h, "", "")
	c.asked(h, first, first)
	c.asked(h, "", first)
	if err := c.request(c.Context(), h.Holder.InstanceID, second); !errors.Is(err, owner.ErrHandover) || !strings.Contains(err.Error(), first) {
		c.Errorf("RequestHandover, for another successor than before: got %v, want an ErrHandover that names it", err)
	}
	c.shows(h, first)
	h.advertised(map[string]string{"still": "there"})
	c.shows(h, first)
	c.must("Release", h.release())
	if view := c.look(); view.HandoverRequested && view.Successor != first {
		c.Errorf("Look, after the release: a handover is requested for %q, want %q or none", view.Successor, first)
	}
	next := c.take(long)
	c.notAsked(next)
	c.asked(next, second, second)
}

// A request to an instance that does not own is refused, and asks no other.
func handoverOfAnother(c *check) {
	refused := func(when, holder string) {
		c.Helper()
		if err := c.request(c.Context(), holder, ""); !errors.Is(err, owner.ErrNoHolder) {
			c.Errorf("RequestHandover, %s: got %v, want ErrNoHolder", when, err)
		}
	}
	refused("of a free lease", uuid.NewString())
	h := c.take(long)
	refused("of an instance that never owned", uuid.NewString())
	c.notAsked(h)
	c.must("Release", h.release())
	refused("of a lease that was released", h.Holder.InstanceID)
	next := c.take(c.ttl)
	refused("of an earlier owner", h.Holder.InstanceID)
	c.notAsked(next)
	_ = c.request(c.Context(), next.Holder.InstanceID, "") // on a slow machine it may have expired
	last := c.succeed(next, long)
	c.notAsked(last)
	refused("of an owner that has expired", next.Holder.InstanceID)
	c.notAsked(last)
	c.must("Renew", last.renew())
}

// It is no renewal.
func handoverIsNoRenewal(c *check) {
	h := c.take(c.ttl)
	expired := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		s, ok := c.store.(owner.HandoverStore)
		for ok {
			_ = s.RequestHandover(context.Background(), h.Holder.InstanceID, "")
			select {
			case <-expired:
				return
			case <-time.After(c.ttl / 20):
			}
		}
	})
	defer asking.Wait()
	defer close(expired)
	_ = c.request(c.Context(), h.Holder.InstanceID, "") // skips
	c.owned(c.succeed(h, long))
}

// Of requests at the same time, one counts, and the others name it.
func handoverRace(c *check) {
	h := c.take(long)
	c.asked(h, "", "") // skips
	const many = 8
	ids, errs := make([]string, many), make([]error, many)
	var wg sync.WaitGroup
	for i := range many {
		ids[i] = uuid.NewString()
		wg.Go(func() {
			errs[i] = c.store.(owner.HandoverStore).RequestHandover(c.Context(), h.Holder.InstanceID, ids[i])
		})
	}
	c.returns("RequestHandover", wg.Wait)
	view := c.look()
	for i := range many {
		switch named := view.Successor == ids[i]; {
		case named && errs[i] != nil:
			c.Errorf("RequestHandover: %v, and it counts", errs[i])
		case !named && (!errors.Is(errs[i], owner.ErrHandover) || !strings.Contains(errs[i].Error(), view.Successor)):
			c.Errorf("RequestHandover: got %v, want an ErrHandover that names %s", errs[i], view.Successor)
		}
	}
	c.owned(h)
}

// A call whose context has ended costs nothing.
func handoverWithEndedContext(c *check) {
	h := c.take(long)
	ctx, cancel := context.WithCancel(c.Context())
	cancel()
	_ = c.request(ctx, h.Holder.InstanceID, "")
	c.owned(h)
	c.must("Renew", h.renew())
	c.asked(h, "", "")
}

// Watchers get a hint.
func handoverHints(c *check) {
	h := c.take(long)
	w := c.watch(h.Holder)
	w.settle()
	c.asked(h, "", "")
	w.hinted("a request for a handover")
	w.settle()
	successor := uuid.NewString()
	c.asked(h, successor, successor)
	w.hinted("a successor that is named later")
}

// Run steps down for another, never before its work has ended, and works again.
func runStepsDown(c *check) {
	if _, ok := c.store.(owner.HandoverStore); !ok {
		c.Skip("the store is no owner.HandoverStore")
	}
	if c.noHints {
		c.Skip("the store gives no hints, and by one an owner sees that it is asked")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var working atomic.Int64
	begun := make(chan struct{})
	work := func(ctx context.Context, o *owner.Owner) error {
		defer working.Add(-1)
		if working.Add(1) > 1 {
			c.Error("two work at once")
		}
		begun <- struct{}{}
		<-ctx.Done()
		time.Sleep(2 * time.Millisecond)
		if !o.IsOwner() {
			c.Errorf("the lease is gone before the work has ended: %v", o.Check())
		}
		return nil
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { _ = owner.Run(ctx, c.config("", long), work) })
	}
	for range 3 {
		c.await("Run calls the work", begun)
		c.returns("RequestHandover", func() {
			c.must("RequestHandover", owner.RequestHandover(ctx, c.config("", long), ""))
		})
	}
	c.await("Run calls the work", begun)
	cancel()
	c.returns("Run", wg.Wait)
}
