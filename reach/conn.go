package reach

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// A clientConn is a connection to an owner. It notes how far reading has come, and
// holds a failed write back until that is known: net/http would close the connection
// then, and not read the acknowledgement that came before.
type clientConn struct {
	net.Conn
	forget func(*clientConn)

	got   atomic.Int64  // bytes read
	ended chan struct{} // closed when nothing more will be read

	mu     sync.Mutex
	over   bool     // ended is closed
	byPeer bool     // by the owner's system
	intact bool     // and all that the owner had written was read before
	user   *attempt // the one that has it, nil where that is over
}

func newClientConn(c net.Conn, forget func(*clientConn)) *clientConn {
	return &clientConn{Conn: c, forget: forget, ended: make(chan struct{})}
}

func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.got.Add(int64(n))
	if err != nil {
		c.end(err)
	}
	return n, err
}

// isEndOfStream reports whether all that was written before the end has been read. That
// is so after a reset, too, within a machine: Unix systems deliver first what has arrived.
// Windows does not; its code for a reset is another than this.
func isEndOfStream(err error) bool { return err == io.EOF || isReset(err) }

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isLossyReset reports whether the peer's end has come by a reset as Windows has it: what
// had arrived before can be lost (WSAECONNRESET, WSAECONNABORTED).
func isLossyReset(err error) bool {
	const reset, aborted = syscall.Errno(10054), syscall.Errno(10053)
	return errors.Is(err, reset) || errors.Is(err, aborted)
}

// isRemote reports whether the owner can be on another machine. Then a reset can overtake
// an acknowledgement: a system that resets sends nothing again that was lost on its way.
func isRemote(c net.Conn) bool {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}

func (c *clientConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		<-c.ended
	}
	return n, err
}

func (c *clientConn) Close() error {
	c.end(net.ErrClosed)
	c.forget(c)
	return c.Conn.Close()
}

func (c *clientConn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(err)
}

func (c *clientConn) endLocked(err error) {
	if !c.over {
		c.over, c.byPeer = true, isEndOfStream(err) || isLossyReset(err)
		c.intact = isEndOfStream(err) && !(isReset(err) && isRemote(c.Conn))
		close(c.ended)
	}
}

// endedByPeer reports whether the owner's system has ended the connection.
func (c *clientConn) endedByPeer() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over && c.byPeer
}

// endedIntact reports whether reading has ended, and has missed nothing.
func (c *clientConn) endedIntact() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over && c.intact
}

// give says which attempt has the connection from now on, and reports whether it is open.
// net/http can give it to another before it has returned the first one's answer.
func (c *clientConn) give(a *attempt) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user = a
	return !c.over
}

// leave is called when an attempt is over.
func (c *clientConn) leave(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user == a {
		c.user = nil
	}
}

// closeFor closes the connection, unless the attempt has it no more.
func (c *clientConn) closeFor(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user == a {
		c.endLocked(net.ErrClosed)
		_ = c.Conn.Close()
	}
}

// closeReadFor is closeRead, unless the attempt has the connection no more.
func (c *clientConn) closeReadFor(a *attempt) (has, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user != a {
		return false, false
	}
	return true, c.closeRead()
}

// closeRead makes the owner's further writes fail, and leaves what it has written
// before to be read. It reports whether this system can do that with this connection.
func (c *clientConn) closeRead() bool {
	u, ok := c.Conn.(*net.UnixConn)
	return ok && closeReadIsExact && u.CloseRead() == nil
}

// CloseWrite ends what is written to the owner, where a protocol that was switched to does
// that.
func (c *clientConn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(to io.Writer) error {
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
