package reach

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/ownerlease/owner/ownertest"
)

// A request's context ends in the moment in which it is answered. Its connection is
// another request's by then, and must not be closed under that one.
func TestRevokedWhenAnswered(t *testing.T) {
	for name, listen := range map[string]func(string) (*listening, error){"default": nil, "tcp": tcp} {
		t.Run(name, func(t *testing.T) {
			store := ownertest.NewMemory()
			begun, end := make(chan struct{}), make(chan struct{})
			serve(t, store, &Server{listenDefault: listen, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					begun <- struct{}{}
					<-end
				}
				echo(w, r)
			})})
			c := newClient(t, store)
			f, err := c.follower()
			must(t, err)
			r := request(t, "POST", "/", http.NoBody)
			h, err := c.newWait().holder(r.Context(), f)
			must(t, err)
			call, err := newCall(r)
			must(t, err)
			a := call.send(h, time.Minute)
			must(t, a.err)
			text(t, a.answer(), nil)
			slow := askLater(t, c, "POST", "/slow", "body")
			<-begun
			a.done = make(chan struct{}) // as it is for a revocation that began before the answer
			a.revoke(0, nil)
			close(end)
			if got := <-slow; got != "body" {
				t.Error(got)
			}
		})
	}
}

// A request's context ends in the moment in which it is answered, and its connection is
// closed just before net/http gives it to another request. Nothing of that one was sent, so
// it has not begun, and is sent again.
func TestGivenWhenClosed(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := newClientConn(near, func(*clientConn) {})
	before, after := &attempt{}, &attempt{err: errors.New("use of closed network connection")}
	before.sendOver(c)
	c.closeFor(before)
	after.sendOver(c)
	if got := after.outcome(); got != notBegun {
		t.Errorf("outcome %d; want %d, not begun", got, notBegun)
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the owner reads %v; want the end of the connection", err)
	}
}
