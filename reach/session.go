package reach

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ownerlease/owner"
)

// A session is one ownership that is served: from the first connection to the end of
// the last handler. Its gate decides about each request whether it begins.
type session struct {
	o        *owner.Owner
	to       address
	accepted []string // the header's value in an acknowledgement
	handler  http.Handler
	token    string
	work     context.Context // of all handlers
	cut      context.CancelCauseFunc
	pipes    *pipeListener

	mu     sync.Mutex
	closed bool          // no request begins any more
	active int           // requests that have begun, and have not been answered
	quiet  chan struct{} // closed when closed is true and active is 0
	rested time.Time     // since when active has been 0
	conns  map[*serverConn]struct{}
}

func newSession(ctx context.Context, o *owner.Owner, h http.Handler, token string) *session {
	work, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	return &session{
		o: o, to: address{o.InstanceID(), o.Epoch()}, accepted: []string{o.InstanceID()}, handler: h, token: token, work: work, cut: cut,
		pipes: newPipeListener(), quiet: make(chan struct{}), rested: time.Now(), conns: map[*serverConn]struct{}{},
	}
}

// begin lets a request begin, which end is to be called for; or it does not, and no
// handler may see it.
func (s *session) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.o.IsOwner() {
		return false
	}
	s.active++
	return true
}

func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.rested = time.Now()
	if s.closed && s.active == 0 {
		close(s.quiet)
	}
}

// close closes the gate.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *session) closeLocked() {
	if s.closed {
		return
	}
	s.closed = true
	if s.active == 0 {
		close(s.quiet)
	}
}

// closeIfIdle closes the gate if no request has come for so long. Otherwise it returns
// when to ask again. Whatever arrives meets the gate either before or after.
func (s *session) closeIfIdle(idle time.Duration) (closed bool, again time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active > 0 {
		return false, idle
	}
	if again = idle - time.Since(s.rested); again > 0 {
		return false, again
	}
	s.closeLocked()
	return true, 0
}

func (s *session) add(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil { // accepted while all are disconnected
		_ = c.Conn.Close()
		return
	}
	s.conns[c] = struct{}{}
}

func (s *session) remove(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// disconnect closes all connections, those that handlers have hijacked as well.
func (s *session) disconnect() {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
}

// serve has the request handled in process, and reports whether it has begun.
func (s *session) serve(w http.ResponseWriter, r *http.Request, h http.Handler) bool {
	if !s.begin() {
		return false
	}
	defer s.end()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	guest := &guestWriter{ResponseWriter: w}
	defer context.AfterFunc(s.work, func() {
		guest.cut()
		cancel(context.Cause(s.work))
	})()
	if h == nil {
		h = s.handler
	}
	h.ServeHTTP(guest, stripped(r.WithContext(ctx)))
	if s.work.Err() != nil {
		panic(http.ErrAbortHandler) // what it has written as it was cut off is no answer
	}
	return true
}

// sessions are those of this process, by their instance's id: how a Client knows that
// the owner is this very process. A pid and a host name would not tell two containers
// apart.
var sessions sync.Map

func sessionOf(instance string) *session {
	s, _ := sessions.Load(instance)
	found, _ := s.(*session)
	return found
}

// A pipeListener accepts connections from within this process.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial connects to the session without a socket. h is served, nil for the session's own.
func (l *pipeListener) dial(ctx context.Context, h http.Handler) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- &localConn{far, h}:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// A localConn is the far end of a connection from within this process.
type localConn struct {
	net.Conn
	handler http.Handler
}
