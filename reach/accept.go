package reach

import (
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"sync/atomic"
)

// A serverConn is a connection of a session. It notes what net/http does not tell a
// handler: that a write has failed, and when a response is on its way as a whole.
type serverConn struct {
	net.Conn
	s        *session
	handler  http.Handler // nil for the session's
	failed   atomic.Bool  // a write has failed
	busy     atomic.Bool  // a request has begun, and its response is not on its way
	hijacked atomic.Bool
}

func (c *serverConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.failed.Store(true)
	}
	return n, err
}

func (c *serverConn) Close() error {
	c.s.remove(c)
	return c.Conn.Close()
}

// CloseWrite is what net/http looks for, to let a client read an early answer.
func (c *serverConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// finish says that the response has been handed to the system, or never will be.
func (c *serverConn) finish() {
	if c.busy.Swap(false) {
		c.s.end()
	}
}

// stateChanged is an http.Server's ConnState. A response is in the server's buffer
// still when its handler has returned; it has gone when the connection is idle.
func stateChanged(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*serverConn)
	if !ok {
		return
	}
	switch state {
	case http.StateIdle, http.StateClosed:
		c.finish()
	case http.StateHijacked: // nothing is heard of it any more
		c.hijacked.Store(true)
	}
}

// A sessionListener makes a session's connections of those that it accepts.
type sessionListener struct {
	net.Listener
	s *session
}

func (l sessionListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &serverConn{Conn: conn, s: l.s}
	if local, ok := conn.(*localConn); ok {
		c.handler = local.handler
	}
	l.s.add(c)
	return c, nil
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ServeHTTP handles what has come over a connection of the session.
func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*serverConn)
	_, local := c.Conn.(*localConn)
	to, addressed, err := addressOf(r.Header)
	switch {
	case !local && !s.admits(r.Header):
		w.Header().Set(headerBegun, "no")
		http.Error(w, "reach: this endpoint is for the users of the lease", http.StatusForbidden)
		return
	case err != nil:
		http.Error(w, "reach: "+err.Error(), http.StatusBadRequest)
		return
	case r.ProtoMajor != 1 || addressed && r.ProtoMinor < 1:
		http.Error(w, "reach: HTTP/1.1 only; 1.0 has no acknowledgements", http.StatusHTTPVersionNotSupported)
		return
	case addressed && to != s.to || !s.begin():
		refuse(w, http.StatusMisdirectedRequest)
		return
	}
	c.busy.Store(true)
	defer func() {
		if c.hijacked.Load() {
			c.finish()
		}
	}()
	if addressed && !s.accept(w, c) {
		return
	}
	h := c.handler
	if h == nil {
		h = s.handler
	}
	h.ServeHTTP(w, stripped(r))
}

// admits compares the secret, in a time that does not depend on what is wrong.
func (s *session) admits(h http.Header) bool {
	if s.token == "" {
		return true
	}
	given := h[headerToken]
	return len(given) == 1 && subtle.ConstantTimeCompare([]byte(given[0]), []byte(s.token)) == 1
}

// accept acknowledges the request, and reports whether its handler is to run. The client
// takes a request without an acknowledgement for one that has not begun: so the
// acknowledgement must be with the system before, and if that refuses it, as the client
// has revoked the request or has gone, the handler must not run.
func (s *session) accept(w http.ResponseWriter, c *serverConn) bool {
	h := w.Header()
	h[headerAccepted] = s.accepted
	w.WriteHeader(http.StatusEarlyHints)
	h.Del(headerAccepted)
	if c.failed.Load() {
		panic(http.ErrAbortHandler) // net/http then closes the connection, and is quiet
	}
	if !s.o.IsOwner() { // stopped since it was last asked, and resumed by now
		refuse(w, http.StatusMisdirectedRequest)
		return false
	}
	return true
}

// refuse answers a request that no handler has seen.
func refuse(w http.ResponseWriter, status int) {
	w.Header().Set(headerBegun, "no")
	http.Error(w, "reach: not the owner that this request is for, or it is stepping down: the request has not begun", status)
}

// stripped is the request as its handler sees it. That it was forwarded stays: the
// handler may forward, too.
func stripped(r *http.Request) *http.Request {
	for _, name := range []string{headerInstance, headerEpoch, headerToken} {
		delete(r.Header, name)
	}
	return r
}
