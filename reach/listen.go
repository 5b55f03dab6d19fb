package reach

import (
	"crypto/rand"
	"fmt"
	"net"

	"github.com/ownerlease/owner"
)

// A listening is where a Server listens.
type listening struct {
	net.Listener
	endpoint string
	token    string // what each request must have, "" where who can connect is known
	tidy     func() // nil, or removes what owners of the past have left: no client waits for that
}

// listen listens where the Server says, or else where this system does by default.
func (s *Server) listen(o *owner.Owner) (*listening, error) {
	if s.Listen == nil {
		if s.listenDefault != nil {
			return s.listenDefault(o.InstanceID())
		}
		return listenDefault(o.InstanceID())
	}
	ln, at, err := s.Listen(o)
	if err != nil {
		return nil, err
	}
	if _, err := parseEndpoint(at); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("%w: no Client would dial it", err)
	}
	return &listening{Listener: ln, endpoint: at}, nil
}

// listenLoopback listens where each process of the machine can connect, and so with a
// secret.
func listenLoopback() (*listening, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &listening{Listener: ln, endpoint: "tcp:" + ln.Addr().String(), token: rand.Text()}, nil
}

// A peerListener accepts connections of this user only.
type peerListener struct{ net.Listener }

func (l peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || checkPeer(c) == nil {
			return c, err
		}
		_ = c.Close()
	}
}
