package reach

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/start"
)

// A starter has owners started for a Client: one at a time, for all requests that wait.
type starter struct {
	ensure func(context.Context) (owner.Record, error)
	ctx    context.Context // ends with the Client
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	now    *starting
	failed int       // how often in a row it has failed
	rested time.Time // before this, no other is begun after a failure
}

// A starting is one try.
type starting struct {
	done chan struct{} // closed when err is there
	err  error
}

// Between a failed start and the next one, the pause doubles: requests that come all the
// time must not make a command that fails the machine's only work.
const (
	firstRest   = 100 * time.Millisecond
	longestRest = 5 * time.Second
)

// newStarter returns nil where none is to be started.
func newStarter(ctx context.Context, c *Client, store owner.Store) *starter {
	switch {
	case c.ensure != nil:
		return &starter{ensure: c.ensure, ctx: ctx}
	case c.Start == nil:
		return nil
	}
	cmd := *c.Start
	cmd.NoEndpoint = false // it is there to be connected to
	return &starter{ctx: ctx, ensure: func(ctx context.Context) (owner.Record, error) { return start.Ensure(ctx, store, cmd) }}
}

// begin begins a try, or joins the one that is under way.
func (s *starter) begin() *starting {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		s.now = &starting{done: make(chan struct{})}
		if s.closed { // close waits no more
			s.now.err = errClosed
			close(s.now.done)
			return s.now
		}
		s.wg.Add(1)
		go s.try(s.now, time.Until(s.rested))
	}
	return s.now
}

// close waits for the end of the try; the context has ended.
func (s *starter) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *starter) try(now *starting, rest time.Duration) {
	defer s.wg.Done()
	err := sleep(s.ctx, rest)
	if err == nil {
		_, err = s.ensure(s.ctx)
	}
	if s.ctx.Err() != nil {
		err = errClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = nil // the next request tries again, whatever has come of this
	if err == nil {
		s.failed = 0
	} else {
		s.rested = time.Now().Add(min(firstRest<<min(s.failed, 10), longestRest))
		s.failed++
	}
	now.err = err
	close(now.done)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start has an owner started, and waits for that or for another. It returns why there is
// none.
func (w *wait) start(ctx context.Context, s *starter, seen sighting) error {
	if w.starting == nil {
		w.starting = s.begin()
	}
	if err := w.sleep(ctx, seen.changed, w.starting.done, w.left(), "an owner was being started"); err != nil {
		return err
	}
	if !isClosed(w.starting.done) {
		return nil // there is another now
	}
	err := w.starting.err
	w.starting = nil
	switch {
	case errors.Is(err, errClosed):
		return errClosed
	case err != nil:
		return &noOwnerError{"none could be started", err}
	}
	// There is one, which is seen in a moment; or it has gone already.
	w.rest(ctx, seen.changed)
	return nil
}
