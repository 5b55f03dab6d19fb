package reach

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ownerlease/owner"
)

// A follower watches the lease for a Client, and keeps the way to its holder.
type follower struct {
	c       *Client
	starter *starter // nil where no owner is to be started
	cancel  context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	known   bool          // the lease has been read
	now     *holder       // nil where no instance owns the lease, as far as is known
	epoch   uint64        // the highest that was seen
	trouble error         // why the lease cannot be read
	over    bool          // the watching has ended
	changed chan struct{} // closed at each change
}

func follow(c *Client, store owner.Store) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{c: c, starter: newStarter(ctx, c, store), cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	go f.watch(ctx, store)
	return f
}

func (f *follower) watch(ctx context.Context, store owner.Store) {
	defer close(f.done)
	for rec, err := range owner.WatchStore(ctx, store) {
		f.see(rec, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	f.set(nil)
}

// close ends the watching, and the way to the holder.
func (f *follower) close() {
	f.cancel()
	<-f.done
	f.starter.close()
}

// see takes what the watching has yielded. A record of the past, as a store can show
// that was restored from a copy, leads to an owner of the past: it is ignored, and so is
// an error, during which the holder that was known may still own.
func (f *follower) see(rec owner.Record, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = err
	if err != nil {
		return
	}
	f.known = true
	switch {
	case rec.InstanceID == "" || rec.Released:
		f.set(nil)
		return
	case f.now != nil && f.now.rec.InstanceID == rec.InstanceID && rec.Epoch == 0:
		return // its record is missing, and the owner will see that
	case rec.Epoch < f.epoch:
		return
	}
	f.epoch = rec.Epoch
	if f.now == nil || !f.now.advertises(&rec) {
		f.set(newHolder(f.c, rec, f.now))
	}
}

func (f *follower) set(h *holder) {
	old := f.now
	f.now = h
	close(f.changed)
	f.changed = make(chan struct{})
	if old != nil {
		old.leave(h)
	}
}

// A sighting is what a follower knows at a moment.
type sighting struct {
	now     *holder         // nil where no instance owns the lease
	free    bool            // that is known
	trouble error           // why it cannot be read
	over    bool            // the Client is closed
	changed <-chan struct{} // closed when this is the past
}

func (f *follower) state() sighting {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sighting{f.now, f.known && f.now == nil && f.trouble == nil, f.trouble, f.over, f.changed}
}

// A holder is an instance that owns the lease, what it advertises, and the way to it.
type holder struct {
	c   *Client
	rec owner.Record
	*tenure
	*route
}

// A tenure is the time in which one instance holds the lease, under whatever endpoint.
type tenure struct {
	gone context.Context // ends when it is not the holder any more
	end  context.CancelFunc

	mu    sync.Mutex
	conns map[*clientConn]struct{}
}

// A route is a way to a holder.
type route struct {
	to        endpoint
	err       error // why its endpoint cannot be used
	transport *http.Transport
}

const (
	dialTimeout    = 10 * time.Second
	maxIdle        = 256
	maxHeaderBytes = 1 << 20
)

// newHolder is the holder with this record. last is the one before it, or nil: an instance
// that advertises anew stays the same holder, on the same route unless its endpoint is
// another.
func newHolder(c *Client, rec owner.Record, last *holder) *holder {
	h := &holder{c: c, rec: rec}
	if last != nil && last.rec.InstanceID == rec.InstanceID {
		h.tenure = last.tenure
		if last.leadsTo(&rec) {
			h.route = last.route
			return h
		}
	} else {
		h.tenure = &tenure{conns: map[*clientConn]struct{}{}}
		h.gone, h.end = context.WithCancel(context.Background())
	}
	h.route = h.newRoute()
	return h
}

func (h *holder) newRoute() *route {
	var r route
	if at := h.rec.Meta[owner.EndpointMetaKey]; at != "" {
		r.to, r.err = parseEndpoint(at)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	r.transport = &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return h.connect(ctx) },
		DisableCompression:     true, // the request is to be the caller's
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        clientIdle,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              protocols,
	}
	return &r
}

// ready reports whether the holder says where it can be reached.
func (h *holder) ready() bool { return h.to.network != "" || h.err != nil }

// advertises reports whether the record says what is known of the holder.
func (h *holder) advertises(rec *owner.Record) bool {
	return h.rec.InstanceID == rec.InstanceID && h.rec.Epoch == rec.Epoch && maps.Equal(h.rec.Meta, rec.Meta)
}

// leadsTo reports whether a record of the same instance leads to where the holder's does.
func (h *holder) leadsTo(rec *owner.Record) bool {
	return h.rec.Meta[owner.EndpointMetaKey] == rec.Meta[owner.EndpointMetaKey] && h.rec.Meta[metaToken] == rec.Meta[metaToken]
}

// connect makes a connection for the transport.
func (h *holder) connect(ctx context.Context) (net.Conn, error) {
	conn, err := h.dialLocal(ctx)
	if conn == nil && err == nil {
		conn, err = h.dial(ctx)
	}
	if err != nil {
		return nil, &dialError{err}
	}
	c := newClientConn(conn, h.forget)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns == nil {
		_ = conn.Close()
		return nil, &dialError{net.ErrClosed}
	}
	h.conns[c] = struct{}{}
	return c, nil
}

// dialLocal connects to the session of this process, nil where it does not own.
func (h *holder) dialLocal(ctx context.Context) (net.Conn, error) {
	if s := h.session(); s != nil {
		return s.pipes.dial(ctx, h.c.Local)
	}
	return nil, nil
}

// session is the one of this process, if that is the holder and is not to dial itself.
func (h *holder) session() *session {
	if h.c.Local == nil && !h.c.inProcess {
		return nil
	}
	return sessionOf(h.rec.InstanceID)
}

// dial connects to the holder's endpoint.
func (h *holder) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(h.gone, cancel)()
	conn, err := new(net.Dialer).DialContext(ctx, h.to.network, h.to.addr)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (t *tenure) forget(c *clientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

// leave ends the use of this way, unless next takes it. Where another instance holds the
// lease now, or none, nothing more is expected of this one: what it has answered can be
// read to its end, and what it has not accepted is revoked.
func (h *holder) leave(next *holder) {
	if next == nil || next.tenure != h.tenure {
		h.tenure.over()
	}
	if next == nil || next.route != h.route {
		h.transport.CloseIdleConnections()
	}
}

func (t *tenure) over() {
	t.end()
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		c.closeRead()
	}
	t.conns = nil
}

// refuse returns why no request is to be sent to this holder.
func (h *holder) refuse() error {
	if h.err != nil {
		return h.err
	}
	if h.c.Accept == nil {
		return nil
	}
	if err := h.c.Accept(h.rec); err != nil {
		return fmt.Errorf("reach: the owner, instance %s, was refused: %w", h.rec.InstanceID, err)
	}
	return nil
}

// A dialError tells that there was no connection from what net/http finds wrong with a
// request before it asks for one.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

func isDialError(err error) bool {
	var dial *dialError
	return errors.As(err, &dial)
}

// isLasting reports whether to dial again cannot help.
func isLasting(err error) bool { return errors.Is(err, errForeign) }
