package reach

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"
)

// An attempt is one try to have a request handled by one owner.
type attempt struct {
	h      *holder
	call   *call
	body   *bodyTry // nil where there is none, or it can be had again
	cancel context.CancelCauseFunc
	hold   *time.Timer
	ended  func() bool   // ends the watch of the caller's context
	done   chan struct{} // closed when resp and err are there

	resp *http.Response
	err  error

	accepted chan struct{} // closed when the owner has accepted the request

	mu      sync.Mutex
	conn    *clientConn // nil until the request was given to one that can be written to
	unsent  bool        // it was given to one that was closed
	before  int64       // what was read from it before
	infos   int         // informational responses
	revoked bool
}

const (
	// mostInfos bounds the informational responses to a request, each of which net/http
	// bounds in its size.
	mostInfos = 1000
	// grace is how long an answer may be on its way from an owner that has released,
	// where its connection cannot be closed at one side.
	grace = 250 * time.Millisecond
)

var (
	errTooManyInfos = fmt.Errorf("reach: more than %d informational responses to one request", mostInfos)
	errNotByOwner   = errors.New("reach: the acknowledgement is not by the owner that was asked, or not the first")
)

// send tries it with this owner, for as long as hold if that does not accept it.
func (c *call) send(h *holder, hold time.Duration) *attempt {
	inner, cancel := context.WithCancelCause(context.Background())
	a := &attempt{h: h, call: c, cancel: cancel, done: make(chan struct{}), accepted: make(chan struct{})}
	inner = httptrace.WithClientTrace(inner, a.trace(httptrace.ContextClientTrace(c.ctx)))
	req, err := c.request(inner, a)
	if err != nil {
		cancel(nil)
		a.err = err
		return a
	}
	a.hold = time.AfterFunc(hold, func() {
		if !isClosed(a.accepted) {
			a.revoke(grace, a.accepted)
		}
	})
	a.ended = context.AfterFunc(c.ctx, a.giveUp)
	gone := context.AfterFunc(h.gone, func() { a.revoke(grace, nil) })
	a.resp, a.err = h.transport.RoundTrip(req)
	a.leaveConn()
	close(a.done)
	a.hold.Stop()
	gone()
	if a.err != nil {
		a.release()
	}
	return a
}

// giveUp is called when the caller's context has ended: it revokes the request, or breaks
// off its answer. An answer that comes meanwhile is broken off by answer.
func (a *attempt) giveUp() {
	if isClosed(a.done) {
		a.cancel(context.Cause(a.call.ctx))
		return
	}
	a.revoke(0, nil)
}

// release is called when nothing of the attempt is used any more, once or more often.
func (a *attempt) release() {
	a.ended()
	a.cancel(nil)
}

// trace is the caller's, with what the attempt has to know. The acknowledgement is not
// for the caller, who could pass it on.
func (a *attempt) trace(outer *httptrace.ClientTrace) *httptrace.ClientTrace {
	var t httptrace.ClientTrace
	if outer != nil {
		t = *outer
	}
	gotConn, got1xx := t.GotConn, t.Got1xxResponse
	t.GotConn = func(info httptrace.GotConnInfo) {
		if c, ok := info.Conn.(*clientConn); ok {
			a.sendOver(c)
		}
		if gotConn != nil {
			gotConn(info)
		}
	}
	t.Got1xxResponse = func(code int, h textproto.MIMEHeader) error {
		if accepted, err := a.inform(code, h); accepted || err != nil || got1xx == nil {
			return err
		}
		return got1xx(code, h)
	}
	return &t
}

// sendOver is called before anything is written to the connection. What was revoked by
// then is not written at all, and nor is anything where an attempt before has closed the
// connection, which net/http may hand on in the same moment.
func (a *attempt) sendOver(c *clientConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revoked || !c.give(a) {
		a.unsent = true
		_ = c.Close()
		return
	}
	a.conn, a.before = c, c.got.Load()
	if a.body != nil {
		a.body.ended = c.ended // before anything is read of it
	}
}

// inform takes an informational response, and reports whether it is the acknowledgement.
func (a *attempt) inform(code int, h textproto.MIMEHeader) (accepted bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.infos++; a.infos > mostInfos {
		return false, errTooManyInfos
	}
	by := h[headerAccepted]
	if code != http.StatusEarlyHints || len(by) == 0 {
		return false, nil
	}
	if len(by) > 1 || by[0] != a.h.rec.InstanceID || isClosed(a.accepted) {
		return false, errNotByOwner
	}
	if a.body != nil && !a.call.repeatable() {
		a.body.b.keepNothing()
	}
	close(a.accepted)
	a.hold.Stop()
	return true, nil
}

// revoke ends the attempt, such that what the owner has written until now is read, and
// that it cannot accept the request any more where this system can do that. Otherwise
// the owner has as long as wait for what it has written to arrive, and is let be if
// that is what closes spared. An attempt that is answered at this moment has its
// connection no more: that can be another request's, and is not touched.
func (a *attempt) revoke(wait time.Duration, spared <-chan struct{}) {
	a.mu.Lock()
	a.revoked = true
	conn := a.conn
	a.mu.Unlock()
	if conn != nil {
		switch has, closed := conn.closeReadFor(a); {
		case !has:
			return
		case closed:
			select {
			case <-conn.ended:
			case <-a.done:
			}
			a.dropBody() // the transport waits for those who read it
			return
		}
		select {
		case <-time.After(wait):
		case <-a.done:
			return
		case <-spared:
			return
		}
		conn.closeFor(a)
	}
	a.dropBody()
	a.cancel(errRevoked)
}

// leaveConn is called when there is nothing to revoke any more.
func (a *attempt) leaveConn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		a.conn.leave(a)
	}
}

var errRevoked = errors.New("reach: revoked, as the owner has not answered in time")

func (a *attempt) dropBody() {
	if a.body != nil {
		a.body.drop()
	}
}
