package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/start"
)

// Client is an http.RoundTripper to the process that owns a lease. The request's URL must
// have the scheme http; its host does not matter to where the request goes. The doc of the
// package says when a request is sent again.
//
// A Client watches the lease from its first use to Close. Its methods can be called
// from any goroutine; its fields must not change once it is in use.
type Client struct {
	// LeasePath names the lease; or Store does.
	LeasePath string
	Store     owner.Store

	// Local, if not nil, handles the requests where a Server of this very process
	// serves the lease: no socket is used then. The acknowledgement, the end of the
	// ownership and Drain are as for other requests.
	Local http.Handler

	// Start, if not nil, starts an owner when a request finds that no instance owns the
	// lease; a Server must serve in that process. All requests that wait share one start. If
	// it fails, they get the reason, in an error that matches ErrNoOwner; the next request
	// tries again, after a pause that grows up to 5 s while starts fail. The lease must be
	// a file, or Start have a Lock.
	Start *start.Command

	// Hold is how long a request waits for an owner that accepts it, in all, and at the
	// longest: a context that ends before ends the wait. Default 30 s.
	Hold time.Duration

	// Accept, if not nil, is asked before a request is sent to an owner. Its error is
	// returned by RoundTrip and Dial: for one of another version, for example.
	Accept func(owner.Record) error

	counts counts

	ensure    func(context.Context) (owner.Record, error) // of tests, in place of Start
	inProcess bool                                        // a Server of this process is served by its own handler, not dialled

	mu     sync.Mutex
	watch  *follower
	failed error
	closed bool
}

const defaultHold = 30 * time.Second

func (c *Client) hold() time.Duration {
	if c.Hold > 0 {
		return c.Hold
	}
	return defaultHold
}

// follower is that of the Client, which its first use starts.
func (c *Client) follower() (*follower, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, errClosed
	case c.watch != nil || c.failed != nil:
		return c.watch, c.failed
	}
	store := c.Store
	if store == nil {
		if c.LeasePath == "" {
			return nil, errors.New("reach: the Client has neither LeasePath nor Store")
		}
		var err error
		if store, err = owner.FileStore(c.LeasePath); err != nil {
			return nil, fmt.Errorf("reach: %w", err)
		}
	}
	c.watch = follow(c, store)
	return c.watch, nil
}

// Close ends the watching and closes the connections. What has not been answered fails.
// A Client cannot be used again.
func (c *Client) Close() error {
	c.mu.Lock()
	watch := c.watch
	c.closed = true
	c.mu.Unlock()
	if watch != nil {
		watch.close()
	}
	return nil
}

// CloseIdleConnections is what http.Client's method of this name calls.
func (c *Client) CloseIdleConnections() {
	c.mu.Lock()
	watch := c.watch
	c.mu.Unlock()
	if watch == nil {
		return
	}
	if now := watch.state().now; now != nil {
		now.transport.CloseIdleConnections()
	}
}

// Dial connects to the owner, and returns the record by which it was found. It waits
// for one as a request does; the error is ErrNoOwner where none can be reached. Nothing of
// the protocol is on such a connection: that the owner still owns, the caller must ask it.
func (c *Client) Dial(ctx context.Context) (net.Conn, owner.Record, error) {
	f, err := c.follower()
	if err != nil {
		return nil, owner.Record{}, err
	}
	w := c.newWait()
	for {
		h, err := w.holder(ctx, f)
		if err != nil {
			return nil, owner.Record{}, err
		}
		conn, err := h.dial(ctx)
		if err == nil {
			return conn, h.rec, nil
		}
		if isLasting(err) {
			return nil, owner.Record{}, err
		}
		if err := w.pause(ctx, f, h, err); err != nil {
			return nil, owner.Record{}, err
		}
	}
}

// A wait is a request's for an owner. Each time that an owner begins with it, it is
// over, and another can begin.
type wait struct {
	limit time.Duration
	since time.Time
	again time.Duration // until the next try
	last  error         // why the last try was none

	starting *starting // nil, or the start that the request has waited for
}

const (
	firstPause   = time.Millisecond
	longestPause = 50 * time.Millisecond
)

func (c *Client) newWait() *wait { return &wait{limit: c.hold(), since: time.Now(), again: firstPause} }

// restart is for a request that had begun, and waits anew.
func (w *wait) restart() { w.since, w.again, w.starting = time.Now(), firstPause, nil }

// left is how long the wait may last.
func (w *wait) left() time.Duration { return w.limit - time.Since(w.since) }

// holder waits until there is a holder that says where it can be reached.
func (w *wait) holder(ctx context.Context, f *follower) (*holder, error) {
	for {
		seen := f.state()
		now := seen.now
		switch {
		case seen.over:
			return nil, errClosed
		case ctx.Err() != nil:
			return nil, &noOwnerError{"the request's context has ended", context.Cause(ctx)}
		case now != nil && now.ready():
			if err := now.refuse(); err != nil {
				return nil, err
			}
			return now, nil
		}
		why := "no instance owns the lease"
		if now != nil {
			why = fmt.Sprintf("instance %s owns the lease, and is not ready", now.rec.InstanceID)
		}
		if seen.trouble != nil {
			w.last = seen.trouble
		}
		var err error
		if f.starter != nil && seen.free {
			err = w.start(ctx, f.starter, seen)
		} else {
			err = w.sleep(ctx, seen.changed, nil, w.left(), why)
		}
		if err != nil {
			return nil, err
		}
	}
}

// pause waits after a try that was none for another holder, or to try again.
func (w *wait) pause(ctx context.Context, f *follower, h *holder, last error) error {
	w.last = last
	seen := f.state()
	if seen.over || seen.now != h {
		return nil
	}
	if left := w.left(); left <= 0 {
		return w.sleep(ctx, nil, nil, 0, fmt.Sprintf("instance %s owns the lease, and has accepted nothing", h.rec.InstanceID))
	}
	w.rest(ctx, seen.changed)
	return nil
}

// rest waits until the next try, each time for longer, or for a change.
func (w *wait) rest(ctx context.Context, changed <-chan struct{}) {
	timer := time.NewTimer(w.again)
	defer timer.Stop()
	w.again = min(2*w.again, longestPause)
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
	}
}

// sleep waits for a change, or what else is closed. It returns an error when there has
// been none in time.
func (w *wait) sleep(ctx context.Context, changed, other <-chan struct{}, left time.Duration, why string) error {
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-other:
		return nil
	case <-ctx.Done():
		return &noOwnerError{why, context.Cause(ctx)}
	case <-timer.C:
		return &noOwnerError{fmt.Sprintf("within %v: %s", w.limit, why), w.last}
	}
}
