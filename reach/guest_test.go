package reach

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// stalls are handlers that a client keeps waiting, and how.
var stalls = map[string]struct {
	handler http.HandlerFunc
	sends   string
}{
	"upload": {
		func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
	},
	"upload, with a deadline for each piece": {
		func(w http.ResponseWriter, r *http.Request) {
			for c := http.NewResponseController(w); r.Context().Err() == nil; {
				_ = c.SetReadDeadline(time.Now().Add(time.Hour))
				if _, err := r.Body.Read(make([]byte, 1)); err != nil {
					return
				}
			}
		},
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
	},
	"upgrade": {upgrade, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n"},
	"download": {
		func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	},
}

// A client that stalls keeps no lease: neither at the end of a Node that owns, nor when it
// has lost the lease.
func TestStalledClientOfANode(t *testing.T) {
	for name, s := range stalls {
		t.Run(name, func(t *testing.T) {
			store, began := ownertest.NewMemory(), make(chan struct{}, 1)
			n := &Node{Config: owner.Config{Store: store, TTL: time.Minute}, Server: &Server{Drain: time.Millisecond, Handler: http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					began <- struct{}{}
					s.handler(w, r)
				})}}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- n.Run(ctx) }()
			at := front(t, n.Handler()).Listener.Addr().String()
			stall := func() {
				conn, err := net.Dial("tcp", at)
				must(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				_, err = io.WriteString(conn, s.sends)
				must(t, err)
				<-began
			}
			stall()
			store.Revoke()
			stall() // by the next ownership
			cancel()
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatal("Run has not returned")
			}
		})
	}
}
