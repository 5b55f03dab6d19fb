package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A call is a request until it is answered or given up.
type call struct {
	req   *http.Request
	ctx   context.Context
	safe  bool // its method asks for no effect
	keyed bool // its key lets the service recognise a repetition
	kept  *keptBody
	sent  time.Time      // when it was last sent, zero before
	tries int            // attempts that were given the body
	cuts  map[string]int // by instance: how often it has accepted the request, and not answered
}

// mostCuts is how often an instance may accept a request and break off. More would not
// be its death, but its handler's way to refuse.
const mostCuts = 2

func newCall(req *http.Request) (*call, error) {
	c := &call{req: req, ctx: req.Context(), safe: isSafe(req.Method)}
	if req.URL == nil || req.URL.Scheme != "http" {
		return nil, errors.New(`reach: the request's URL must have the scheme "http"; its host does not matter`)
	}
	var err error
	if c.keyed, err = idempotencyKey(req.Header); err != nil {
		return nil, err
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		c.kept = newKeptBody(req.Body)
	}
	return c, nil
}

// repeatable reports whether it may be sent again although it may have taken effect.
func (c *call) repeatable() bool { return c.safe || c.keyed }

// RoundTrip has the request handled by the owner. Before there is one that accepts it,
// the request is held; see the doc of the package for when it is sent again.
//
// A body is sent again from GetBody, as http.NewRequest sets it for bytes and strings.
// Of other bodies, up to 1 MiB is kept in memory: a larger one is sent again unless a
// handler has begun with it.
//
// Errors match ErrNoOwner or ErrOutcomeUnknown; where neither, the request cannot be sent
// as it is, the owner was refused, or its answer to a safe request was broken. RoundTrip
// does not follow redirects, as no RoundTripper does.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	f, err := c.follower()
	if err != nil {
		closeBody(req)
		return nil, err
	}
	call, err := newCall(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	began := time.Now()
	resp, err := call.do(f, c.newWait())
	if err != nil {
		err = call.explain(err)
		call.giveUp()
	}
	c.counts.count(err, call.heldSince(began))
	return resp, err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

func (c *call) do(f *follower, w *wait) (*http.Response, error) {
	for {
		h, err := w.holder(c.ctx, f)
		if err != nil {
			return nil, err
		}
		c.sent = time.Now()
		a := c.send(h, w.left())
		switch out := a.outcome(); out {
		case answered:
			return a.answer(), nil
		case notBegun:
			err = c.afterRefusal(a)
		default:
			err = c.afterCut(a, out)
			w.restart()
		}
		if err != nil {
			return nil, err
		}
		if err := w.pause(c.ctx, f, h, a.err); err != nil {
			return nil, err
		}
	}
}

// afterRefusal returns why a request that was not begun is not sent again, or nil.
func (c *call) afterRefusal(a *attempt) error {
	if a.resp != nil {
		late := time.AfterFunc(grace, a.release)
		_, _ = io.CopyN(io.Discard, a.resp.Body, 1<<10) // so that the connection can be used again
		late.Stop()
		_ = a.resp.Body.Close()
		a.release()
		a.err = fmt.Errorf("instance %s answers that it is not the owner, or steps down", a.h.rec.InstanceID)
	}
	switch {
	case isLasting(a.err):
		return a.err
	case c.ctx.Err() != nil:
		return &noOwnerError{fmt.Sprintf("instance %s has not accepted the request", a.h.rec.InstanceID), context.Cause(c.ctx)}
	case !c.bodyLeft():
		return &noOwnerError{"the request has not begun", errBodyGone}
	}
	return nil
}

// afterCut returns why a request that may have taken effect is not sent again, or nil.
func (c *call) afterCut(a *attempt, out outcome) error {
	if a.conn == nil { // net/http has refused it, or there is no body to send again
		return a.err
	}
	id := a.h.rec.InstanceID
	if c.cuts == nil {
		c.cuts = map[string]int{}
	}
	c.cuts[id]++
	err := a.err
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	why := ""
	switch {
	case c.ctx.Err() != nil:
		why = "no answer came before the request's context ended"
	case out == broken:
		why = "its answer was broken"
	case !c.repeatable():
		why = "no answer came"
	case !c.bodyLeft():
		why, err = "no answer came", errBodyGone
	case c.cuts[id] >= mostCuts:
		why = "it broke off more than once"
	default:
		return nil
	}
	if c.safe {
		return fmt.Errorf("reach: %s to instance %s: %s: %w", c.req.Method, id, why, err)
	}
	return &unknownError{c.req.Method, &a.h.rec, why, err}
}

// heldSince returns how long it was held before it was sent for the last time.
func (c *call) heldSince(began time.Time) time.Duration {
	if c.sent.IsZero() {
		return time.Since(began)
	}
	return c.sent.Sub(began)
}

// explain makes any reason not to go on into an unknown outcome, where an earlier attempt
// may have taken effect.
func (c *call) explain(err error) error {
	if c.safe || len(c.cuts) == 0 || errors.Is(err, ErrOutcomeUnknown) {
		return err
	}
	ids := slices.Sorted(maps.Keys(c.cuts))
	if errors.Is(err, ErrNoOwner) { // it says that nothing has begun
		err = errors.Unwrap(err)
	}
	if err == nil {
		return fmt.Errorf("%w: instances %v may have begun, and no owner has answered since", ErrOutcomeUnknown, ids)
	}
	return fmt.Errorf("%w: instances %v may have begun, and no owner has answered since: %w", ErrOutcomeUnknown, ids, err)
}

// bodyLeft reports whether the body can be sent once more.
func (c *call) bodyLeft() bool {
	if c.kept == nil {
		return true
	}
	c.kept.mu.Lock()
	defer c.kept.mu.Unlock()
	return c.kept.base == 0
}

// giveUp closes the body that no attempt will read.
func (c *call) giveUp() {
	switch {
	case c.kept != nil:
		c.kept.close()
	case c.tries == 0:
		closeBody(c.req)
	}
}

// request is the call's for one attempt.
func (c *call) request(ctx context.Context, a *attempt) (*http.Request, error) {
	r := c.req.WithContext(ctx)
	u := *c.req.URL
	u.Host = "owner" // the same for all, so that all share the connections
	r.URL = &u
	if r.Host == "" {
		r.Host = c.req.URL.Host
	}
	r.Header = c.req.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	rec := &a.h.rec
	r.Header[headerInstance] = []string{rec.InstanceID}
	r.Header[headerEpoch] = []string{strconv.FormatUint(rec.Epoch, 10)}
	delete(r.Header, headerToken)
	if again, ok := r.Header[otherKey]; ok {
		// By this spelling net/http would send it again by itself; the owner reads any.
		delete(r.Header, otherKey)
		r.Header[strings.ToLower(otherKey)] = again
	}
	if token := rec.Meta[metaToken]; token != "" && a.h.to.network == "tcp" {
		r.Header[headerToken] = []string{token}
	}
	c.tries++
	switch {
	case c.kept != nil:
		a.body = c.kept.try(a.accepted)
		r.Body = a.body
	case c.req.GetBody != nil && c.tries > 1:
		body, err := c.req.GetBody()
		if err != nil {
			return nil, fmt.Errorf("reach: the body to send again: %w", err)
		}
		r.Body = body
	}
	return r, nil
}

// answer is the response for the caller.
func (a *attempt) answer() *http.Response {
	ctx := a.call.ctx
	if ctx.Err() != nil { // giveUp may have come too early to break it off
		a.cancel(context.Cause(ctx))
	}
	resp := a.resp
	resp.Request = a.call.req
	if a.body != nil {
		a.body.settle()
	}
	body := &answerBody{resp.Body, a}
	switch w, writable := resp.Body.(io.Writer); {
	case writable:
		resp.Body = &upgradedBody{body, w}
	case resp.Body == http.NoBody:
		body.end()
	default:
		resp.Body = body
	}
	return resp
}
