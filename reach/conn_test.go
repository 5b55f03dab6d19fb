package reach

import (
	"io"
	"net"
	"syscall"
	"testing"
)

// endsWith is a connection to an address, whose reading ends with an error.
type endsWith struct {
	net.Conn
	to  net.Addr
	err error
}

func (c endsWith) Read([]byte) (int, error) { return 0, c.err }
func (c endsWith) RemoteAddr() net.Addr     { return c.to }
func tcpAddr(ip string) net.Addr            { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 80} }

// What a reset means depends on where the owner is.
func TestEndOfAConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		to             net.Addr
		err            error
		byPeer, intact bool
	}{
		"unix, end":         {&net.UnixAddr{Name: "/s"}, io.EOF, true, true},
		"unix, reset":       {&net.UnixAddr{Name: "/s"}, syscall.ECONNRESET, true, true},
		"loopback, reset":   {tcpAddr("127.0.0.1"), syscall.ECONNRESET, true, true},
		"loopback 6, reset": {tcpAddr("::1"), syscall.ECONNRESET, true, true},
		"remote, end":       {tcpAddr("192.0.2.1"), io.EOF, true, true},
		"remote, reset":     {tcpAddr("192.0.2.1"), syscall.ECONNRESET, true, false},
		"Windows, reset":    {tcpAddr("127.0.0.1"), syscall.Errno(10054), true, false},
		"time-out":          {tcpAddr("192.0.2.1"), syscall.ETIMEDOUT, false, false},
	} {
		c := newClientConn(endsWith{nil, tc.to, tc.err}, func(*clientConn) {})
		if _, err := c.Read(nil); err != tc.err {
			t.Errorf("%s: %v", name, err)
		}
		if c.endedByPeer() != tc.byPeer || c.endedIntact() != tc.intact {
			t.Errorf("%s: by peer %v, intact %v", name, c.endedByPeer(), c.endedIntact())
		}
	}
}
