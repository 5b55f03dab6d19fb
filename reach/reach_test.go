package reach

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

func TestMain(m *testing.M) {
	if child, ok := os.LookupEnv(childEnv); ok {
		os.Exit(runChild(child))
	}
	dir, err := os.MkdirTemp("", "reach")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_RUNTIME_DIR", dir)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// tcp listens on the loopback interface, with the secret: the default where there are no
// Unix sockets.
func tcp(string) (*listening, error) { return listenLoopback() }

// A service is a Server that serves one ownership.
type service struct {
	*owner.Owner
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// serve campaigns for the lease, and serves.
func serve(t testing.TB, store owner.Store, s *Server) *service {
	t.Helper()
	o, err := owner.Campaign(context.Background(), owner.Config{Store: store, TTL: time.Minute, Meta: map[string]string{"version": "1"}})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	v := &service{Owner: o, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		v.err = s.Serve(ctx, o)
		_ = o.Release()
	}()
	t.Cleanup(func() { _ = v.end() })
	return v
}

// end steps down, and returns what Serve has.
func (v *service) end() error {
	v.cancel()
	<-v.done
	return v.err
}

func newClient(t testing.TB, store owner.Store, change ...func(*Client)) *Client {
	t.Helper()
	c := &Client{Store: store}
	for _, f := range change {
		f(c)
	}
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func request(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, "http://any"+path, body)
	must(t, err)
	return r
}

// text is the body of the answer.
func text(t testing.TB, resp *http.Response, err error) string {
	t.Helper()
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(b)
}

func ask(t testing.TB, c http.RoundTripper, method, path, body string) string {
	t.Helper()
	resp, err := c.RoundTrip(request(t, method, path, strings.NewReader(body)))
	return text(t, resp, err)
}

// askLater asks in a goroutine of its own, and says what was wrong instead of an answer.
func askLater(t testing.TB, c http.RoundTripper, method, path, body string) <-chan string {
	t.Helper()
	answer := make(chan string, 1)
	r := request(t, method, path, strings.NewReader(body))
	go func() {
		resp, err := c.RoundTrip(r)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			answer <- err.Error()
		}
		answer <- string(b)
	}()
	return answer
}

func says(s string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, s) })
}

var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(w, r.Body)
})

// both runs a test over each kind of connection.
func both(t *testing.T, test func(t *testing.T, s func(*Server) *Server)) {
	t.Run("default", func(t *testing.T) { test(t, func(s *Server) *Server { return s }) })
	t.Run("tcp", func(t *testing.T) {
		test(t, func(s *Server) *Server {
			s.listenDefault = tcp
			return s
		})
	})
}

func TestRequest(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		c := newClient(t, store)
		var seen http.Header
		serve(t, store, with(&Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = r.Header.Clone()
			_, _ = io.WriteString(w, r.Host+r.URL.String())
		})}))
		if got := ask(t, c, "GET", "/a?b=c;d", ""); got != "any/a?b=c;d" {
			t.Error(got)
		}
		for name := range seen {
			if strings.HasPrefix(name, "Owner-") {
				t.Errorf("the handler sees %s", name)
			}
		}
	})
}

// The record keeps what Join has put into it.
func TestMetadataIsKept(t *testing.T) {
	store := ownertest.NewMemory()
	v := serve(t, store, &Server{Handler: echo})
	c := newClient(t, store)
	conn, rec, err := c.Dial(t.Context())
	must(t, err)
	conn.Close()
	if rec.InstanceID != v.InstanceID() || rec.Meta["version"] != "1" {
		t.Errorf("%+v", rec)
	}
}

// Requests that come before there is an owner, and while it prepares, wait for it.
func TestHold(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	answers := askLater(t, c, "POST", "/", "early")
	prepare := make(chan struct{})
	serve(t, store, &Server{Prepare: func(ctx context.Context, o *owner.Owner) (http.Handler, error) {
		if !o.IsOwner() {
			t.Error("prepares without owning")
		}
		<-prepare
		return echo, nil
	}})
	select {
	case a := <-answers:
		t.Error("answered before it was prepared:", a)
	case <-time.After(20 * time.Millisecond):
	}
	close(prepare)
	if a := <-answers; a != "early" {
		t.Error(a)
	}
}

func TestHoldEnds(t *testing.T) {
	c := newClient(t, ownertest.NewMemory(), func(c *Client) { c.Hold = 10 * time.Millisecond })
	_, err := c.RoundTrip(request(t, "POST", "/", strings.NewReader("x")))
	if !errors.Is(err, ErrNoOwner) || errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), "no instance owns") {
		t.Error(err)
	}
	c.Hold = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = c.RoundTrip(request(t, "GET", "/", nil).WithContext(ctx))
	if !errors.Is(err, ErrNoOwner) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, _, err := c.Dial(ctx); !errors.Is(err, ErrNoOwner) {
		t.Error(err)
	}
}

func TestPrepareFails(t *testing.T) {
	store := ownertest.NewMemory()
	failed := errors.New("no model")
	v := serve(t, store, &Server{Prepare: func(context.Context, *owner.Owner) (http.Handler, error) { return nil, failed }})
	<-v.done
	if v.err != failed {
		t.Error(v.err)
	}
	v = serve(t, store, &Server{})
	<-v.done
	if v.err == nil || !strings.Contains(v.err.Error(), "no Handler") {
		t.Error(v.err)
	}
}

func TestAccept(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: echo})
	old := errors.New("version 1 is too old")
	c := newClient(t, store, func(c *Client) {
		c.Accept = func(r owner.Record) error {
			if r.Meta["version"] == "1" {
				return old
			}
			return nil
		}
	})
	if _, err := c.RoundTrip(request(t, "GET", "/", nil)); !errors.Is(err, old) {
		t.Error(err)
	}
}

func TestKeepAlive(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		c := newClient(t, store)
		conns := map[net.Conn]bool{}
		serve(t, store, with(&Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conns[r.Context().Value(connKey{}).(net.Conn)] = true
			_, _ = io.Copy(w, r.Body)
		})}))
		for range 20 {
			ask(t, c, "POST", "/", "x")
			// Without GetBody, and of a length that is not known.
			resp, err := c.RoundTrip(request(t, "POST", "/", io.MultiReader(strings.NewReader("x"))))
			text(t, resp, err)
		}
		if len(conns) != 1 {
			t.Errorf("%d connections", len(conns))
		}
	})
}

func TestTrailers(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Sum")
		_, _ = io.WriteString(w, "x")
		w.Header().Set("Sum", r.Trailer.Get("Sum")+"!")
	})})
	r := request(t, "POST", "/", io.MultiReader(strings.NewReader("x")))
	r.Trailer = http.Header{"Sum": {"1"}}
	resp, err := c.RoundTrip(r)
	text(t, resp, err)
	if got := resp.Trailer.Get("Sum"); got != "1!" {
		t.Error(got)
	}
}

// A body far larger than all buffers, both ways at once, in one piece and again.
func TestHugeBody(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		c := newClient(t, store)
		serve(t, store, with(&Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			must(t, http.NewResponseController(w).EnableFullDuplex())
			_, _ = io.Copy(w, r.Body)
		})}))
		body := bytes.Repeat([]byte("0123456789abcdef"), 512<<10)
		for _, src := range []io.Reader{bytes.NewReader(body), io.MultiReader(bytes.NewReader(body))} {
			resp, err := c.RoundTrip(request(t, "PUT", "/", src))
			if got := text(t, resp, err); got != string(body) {
				t.Errorf("%d bytes, %d sent", len(got), len(body))
			}
		}
	})
}

// Each side hears the other while both talk.
func TestStream(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		c := newClient(t, store)
		serve(t, store, with(&Server{Handler: http.HandlerFunc(talk)}))
		in, out := io.Pipe()
		resp, err := c.RoundTrip(request(t, "POST", "/", in))
		must(t, err)
		b := make([]byte, 1)
		for i := range 10 {
			_, _ = out.Write([]byte{byte(i)})
			if _, err := io.ReadFull(resp.Body, b); err != nil || b[0] != byte(i) {
				t.Fatal(i, b, err)
			}
		}
		must(t, out.Close(), resp.Body.Close())
	})
}

// talk answers each byte at once.
func talk(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)
	_ = ctl.EnableFullDuplex()
	_ = ctl.Flush()
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r.Body, b); err != nil {
			return
		}
		_, _ = w.Write(b)
		_ = ctl.Flush()
	}
}

func TestCancellation(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		c := newClient(t, store)
		began, ended := make(chan struct{}), make(chan struct{})
		serve(t, store, with(&Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began <- struct{}{}
			<-r.Context().Done()
			ended <- struct{}{}
		})}))
		for _, method := range []string{"GET", "POST"} {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-began
				cancel()
			}()
			_, err := c.RoundTrip(request(t, method, "/", nil).WithContext(ctx))
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) != (method == "POST") {
				t.Errorf("%s: %v", method, err)
			}
			<-ended
		}
	})
}

// The end of the context ends the body, too.
func TestCancelledBody(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	serve(t, store, &Server{Handler: http.HandlerFunc(talk)})
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	defer out.Close()
	resp, err := c.RoundTrip(request(t, "POST", "/", in).WithContext(ctx))
	must(t, err)
	defer resp.Body.Close()
	cancel()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A handler that gives up breaks the connection, and is asked once more if that is safe.
func TestAbort(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		c := newClient(t, store)
		var calls atomic.Int32
		serve(t, store, with(&Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			panic(http.ErrAbortHandler)
		})}))
		for _, x := range []struct {
			method, key string
			calls       int32
			unknown     bool
		}{{"GET", "", 2, false}, {"POST", "", 1, true}, {"POST", "k", 2, true}} {
			calls.Store(0)
			r := request(t, x.method, "/", nil)
			if x.key != "" {
				r.Header.Set(headerKey, x.key)
			}
			_, err := c.RoundTrip(r)
			if err == nil || errors.Is(err, ErrOutcomeUnknown) != x.unknown || errors.Is(err, ErrNoOwner) || calls.Load() != x.calls {
				t.Errorf("%+v: %d calls, %v", x, calls.Load(), err)
			}
		}
	})
}

func TestIdempotencyKeys(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	serve(t, store, &Server{Handler: echo})
	for _, keys := range [][]string{{""}, {strings.Repeat("k", 256)}, {"a", "b"}, {"a", "a"}} {
		r := request(t, "POST", "/", strings.NewReader("x"))
		r.Header[headerKey] = keys
		if _, err := c.RoundTrip(r); !errors.Is(err, errKey) {
			t.Errorf("%q: %v", keys, err)
		}
	}
	r := request(t, "POST", "/", strings.NewReader("x"))
	r.Header.Set(headerKey, strings.Repeat("k", 255))
	resp, err := c.RoundTrip(r)
	text(t, resp, err)
}

// What net/http would refuse is refused at once.
func TestInvalidRequests(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	serve(t, store, &Server{Handler: echo})
	bad := request(t, "GET", "/", nil)
	bad.Header["X"] = []string{"a\nb"}
	https := request(t, "GET", "/", nil)
	https.URL.Scheme = "https"
	for _, r := range []*http.Request{bad, https} {
		if _, err := c.RoundTrip(r); err == nil || errors.Is(err, ErrNoOwner) || errors.Is(err, ErrOutcomeUnknown) {
			t.Error(err)
		}
	}
}

func TestClosedClient(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	failed := make(chan error)
	go func() {
		_, err := c.RoundTrip(request(t, "GET", "/", nil))
		failed <- err
	}()
	for c.running() == nil {
		time.Sleep(time.Millisecond)
	}
	must(t, c.Close())
	if err := <-failed; !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if _, err := c.RoundTrip(request(t, "GET", "/", nil)); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if _, err := newClient(t, nil).RoundTrip(request(t, "GET", "/", nil)); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Error(err)
	}
}

func (c *Client) running() *follower {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watch
}

// The body is closed once, whatever becomes of the request.
func TestBodyIsClosed(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: echo})
	c := newClient(t, store)
	none := newClient(t, ownertest.NewMemory(), func(c *Client) { c.Hold = time.Millisecond })
	for name, c := range map[string]*Client{"answered": c, "no owner": none} {
		b := &closeCounter{Reader: strings.NewReader("x"), closed: make(chan struct{})}
		if resp, err := c.RoundTrip(request(t, "POST", "/", b)); err == nil {
			text(t, resp, err)
		}
		select {
		case <-b.closed:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not closed", name)
		}
	}
}

type closeCounter struct {
	io.Reader
	closed chan struct{}
}

func (c *closeCounter) Close() error {
	close(c.closed) // twice would panic
	return nil
}

// leasePath is in a folder that is removed at the end, if nothing is in the way: an
// acquisition that was given up can still be under way.
func leasePath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lease")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "x.lease")
}
