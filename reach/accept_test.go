package reach

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// raw is a connection to the owner, without a Client.
type raw struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	rec  owner.Record
}

func dialRaw(t *testing.T, store owner.Store) *raw {
	t.Helper()
	conn, rec, err := newClient(t, store).Dial(t.Context())
	must(t, err)
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { conn.Close() })
	return &raw{t, conn, bufio.NewReader(conn), rec}
}

// send sends a request with these headers, and with the secret if there is one.
func (r *raw) send(headers string) {
	r.t.Helper()
	if token := r.rec.Meta[metaToken]; token != "" {
		headers += headerToken + ": " + token + "\r\n"
	}
	_, err := io.WriteString(r.conn, "GET / HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n")
	must(r.t, err)
}

func (r *raw) addressed() string {
	return fmt.Sprintf("Owner-Instance: %s\r\nOwner-Epoch: %d\r\n", r.rec.InstanceID, r.rec.Epoch)
}

// answer reads the next response, an informational one, too.
func (r *raw) answer() *http.Response {
	r.t.Helper()
	resp, err := http.ReadResponse(r.in, nil)
	must(r.t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp
}

func TestAcknowledgement(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		release := make(chan struct{})
		goOn := sync.OnceFunc(func() { close(release) })
		v := serve(t, store, with(&Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-release // it is acknowledged before the handler has done anything
		})}))
		t.Cleanup(goOn)
		r := dialRaw(t, store)
		must(t, r.conn.SetDeadline(time.Now().Add(5*time.Second)))
		r.send(r.addressed())
		if got := r.answer(); got.StatusCode != 103 || got.Header.Get(headerAccepted) != v.InstanceID() {
			t.Errorf("%+v", got)
		}
		goOn()
		if got := r.answer(); got.StatusCode != 200 || got.Header.Get(headerAccepted) != "" {
			t.Errorf("%+v", got)
		}
	})
}

func TestPlainClient(t *testing.T) {
	store := ownertest.NewMemory()
	v := serve(t, store, &Server{Handler: echo})
	r := dialRaw(t, store)
	r.send("")
	if got := r.answer(); got.StatusCode != 200 {
		t.Errorf("%+v", got)
	}
	must(t, v.Release()) // by itself, and so without Serve, which has yet to hear of it
	if !refuses(r) {
		t.Error("served without owning")
	}
}

// refuses reports whether nothing begins: by the answer, or as the connection was closed.
func refuses(r *raw) bool {
	if _, err := io.WriteString(r.conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return true
	}
	resp, err := http.ReadResponse(r.in, nil)
	return err != nil || resp.StatusCode == http.StatusMisdirectedRequest && resp.Header.Get(headerBegun) == "no"
}

func TestAddresses(t *testing.T) {
	store := ownertest.NewMemory()
	var calls atomic.Int32
	v := serve(t, store, &Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) })})
	id, epoch := v.InstanceID(), fmt.Sprint(v.Epoch())
	for _, x := range []struct {
		instances, epochs []string
		status            int
	}{
		{[]string{uuid.NewString()}, []string{epoch}, 421},
		{[]string{id}, []string{"7"}, 421},
		{[]string{id}, nil, 400},
		{nil, []string{epoch}, 400},
		{[]string{id, id}, []string{epoch}, 400},
		{[]string{id}, []string{epoch, epoch}, 400},
		{[]string{""}, []string{epoch}, 400},
		{[]string{strings.ToUpper(id[:35]) + "G"}, []string{epoch}, 400},
		{[]string{id + "," + id}, []string{epoch}, 400},
		{[]string{"../../../../../../../../../../../../"}, []string{epoch}, 400},
		{[]string{id}, []string{""}, 400},
		{[]string{id}, []string{"+" + epoch}, 400},
		{[]string{id}, []string{"0" + epoch}, 400},
		{[]string{id}, []string{"-1"}, 400},
		{[]string{id}, []string{"18446744073709551616"}, 400},
	} {
		headers := ""
		for _, i := range x.instances {
			headers += "Owner-Instance: " + i + "\r\n"
		}
		for _, e := range x.epochs {
			headers += "Owner-Epoch: " + e + "\r\n"
		}
		r := dialRaw(t, store)
		r.send(headers)
		got := r.answer()
		if got.StatusCode != x.status || (got.Header.Get(headerBegun) == "no") != (x.status == 421) {
			t.Errorf("%q, %q: %+v", x.instances, x.epochs, got)
		}
	}
	if calls.Load() > 0 {
		t.Error("a handler was called")
	}
}

func TestToken(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: echo, listenDefault: tcp})
	r := dialRaw(t, store)
	token := r.rec.Meta[metaToken]
	if len(token) < 20 {
		t.Fatalf("token %q", token)
	}
	for _, headers := range []string{"", "Owner-Token: \r\n", "Owner-Token: x" + token[1:] + "\r\n", "Owner-Token: " + token + "\r\nOwner-Token: " + token + "\r\n"} {
		r := dialRaw(t, store)
		r.rec.Meta = nil
		r.send(headers)
		if got := r.answer(); got.StatusCode != http.StatusForbidden {
			t.Errorf("%q: %+v", headers, got)
		}
	}
}

// An owner has gone, and the server of another lease listens at its port: the request has
// not begun there, and goes to the next owner.
func TestPortOfAnotherLease(t *testing.T) {
	other := ownertest.NewMemory()
	serve(t, other, &Server{Handler: says("another lease"), listenDefault: tcp})
	at := dialRaw(t, other).rec.Meta[owner.EndpointMetaKey] // it listens
	store := ownertest.NewMemory()
	dead, err := owner.Join(t.Context(), owner.Config{Store: store, TTL: time.Minute, Endpoint: at, Meta: map[string]string{metaToken: "of the dead owner"}})
	must(t, err)
	answer := askLater(t, newClient(t, store), "POST", "/", "body")
	time.Sleep(20 * time.Millisecond) // it has been refused by now, most likely
	must(t, dead.Release())
	serve(t, store, &Server{Handler: says("the next"), listenDefault: tcp})
	if got := <-answer; got != "the next" {
		t.Error(got)
	}
}

// A handler's own 403 is an answer, whatever headers it has.
func TestForbiddenByTheHandler(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(headerBegun, "no")
		http.Error(w, "not you", http.StatusForbidden)
	})})
	resp, err := newClient(t, store).RoundTrip(request(t, "POST", "/", nil))
	if got := text(t, resp, err); resp.StatusCode != http.StatusForbidden || got != "not you\n" {
		t.Error(resp.Status, got)
	}
}

// When the acknowledgement cannot be written, the handler does not run.
func TestUnwrittenAcknowledgement(t *testing.T) {
	store := ownertest.NewMemory()
	var calls atomic.Int32
	var broken atomic.Bool
	serve(t, store, &Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }),
		listenDefault: writing(func([]byte) error {
			if broken.Load() {
				return errors.New("broken pipe")
			}
			return nil
		}),
	})
	r := dialRaw(t, store)
	r.send("")
	r.answer() // a plain request, by which the connection is known to work
	broken.Store(true)
	r.send(r.addressed())
	if _, err := r.in.ReadByte(); err != io.EOF {
		t.Error(err)
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

// writing listens by default, and has before called with what is written; its error is
// the write's.
func writing(before func(p []byte) error) func(string) (*listening, error) {
	return func(id string) (*listening, error) {
		ln, err := listenDefault(id)
		if err == nil {
			ln.Listener = writingListener{ln.Listener, before}
		}
		return ln, err
	}
}

type writingListener struct {
	net.Listener
	before func([]byte) error
}

func (l writingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &writingConn{c, l.before}, err
}

type writingConn struct {
	net.Conn
	before func([]byte) error
}

func (c *writingConn) Write(p []byte) (int, error) {
	if err := c.before(p); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// HTTP/2 is not spoken: its acknowledgements would not be written in time.
func TestNoHTTP2(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: echo})
	r := dialRaw(t, store)
	_, err := io.WriteString(r.conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	must(t, err)
	if got := r.answer(); got.ProtoMajor != 1 || got.StatusCode < 400 {
		t.Errorf("%+v", got)
	}
}
