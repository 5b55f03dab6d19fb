package reach

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// A guestWriter answers on a connection of another server than the session's, which the
// session cannot close. When the session ends, what the handler does there fails: it would
// wait for a client that has stalled, and keep the lease.
type guestWriter struct {
	http.ResponseWriter

	mu       sync.Mutex
	over     bool
	hijacked net.Conn
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

func (w *guestWriter) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.hijacked != nil {
		_ = w.hijacked.Close()
		return
	}
	c := w.controller()
	_, _ = c.SetReadDeadline(past), c.SetWriteDeadline(past)
}

func (w *guestWriter) controller() *http.ResponseController {
	return http.NewResponseController(w.ResponseWriter)
}

// What follows is what handlers, and ResponseController, look for in a ResponseWriter.

func (w *guestWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *guestWriter) Flush() { _ = w.FlushError() }

func (w *guestWriter) FlushError() error { return w.controller().Flush() }

func (w *guestWriter) ReadFrom(src io.Reader) (int64, error) { return io.Copy(w.ResponseWriter, src) }

func (w *guestWriter) SetReadDeadline(at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.controller().SetReadDeadline(w.deadline(at))
}

func (w *guestWriter) SetWriteDeadline(at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.controller().SetWriteDeadline(w.deadline(at))
}

// deadline does not let a handler have more time once it is cut off.
func (w *guestWriter) deadline(at time.Time) time.Time {
	if w.over {
		return past
	}
	return at
}

func (w *guestWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil, nil, net.ErrClosed
	}
	conn, buf, err := w.controller().Hijack()
	w.hijacked = conn
	return conn, buf, err
}
