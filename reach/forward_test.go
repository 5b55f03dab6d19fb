package reach

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// front serves h on a port of its own, as the clients of a copy see it.
func front(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func post(t *testing.T, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("POST", url, strings.NewReader(body))
	must(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	must(t, err)
	return resp, text(t, resp, nil)
}

func TestForward(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %v %s", r.Host, r.URL, b, r.Header.Get("X-Forwarded-For"), r.Header["Keep-Alive"], r.Trailer.Get("In"))
		w.Header().Set("Sum", "1")
	})})
	s := front(t, Forward(newClient(t, store)))
	resp, got := post(t, s.URL+"/a%2Fb?c=d;e", "body", "X-Forwarded-For", "1.2.3.4", "Keep-Alive", "300", "Owner-Instance", "forged", "Owner-Epoch", "1")
	if want := strings.TrimPrefix(s.URL, "http://") + " /a%2Fb?c=d;e body 1.2.3.4, 127.0.0.1 [] "; got != want || resp.Trailer.Get("Sum") != "1" {
		t.Errorf("%q, want %q; trailer %v", got, want, resp.Trailer)
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "Owner-") {
			t.Errorf("the client sees %s", name)
		}
	}
}

// The acknowledgement ends at the forwarder; what the handler says early does not.
func TestForwardedHints(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "<x>")
		w.WriteHeader(http.StatusEarlyHints)
	})})
	s := front(t, Forward(newClient(t, store)))
	var hints []textproto.MIMEHeader
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, h)
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
	must(t, err)
	resp, err := http.DefaultTransport.RoundTrip(r)
	text(t, resp, err)
	if len(hints) != 1 || hints[0].Get("Link") != "<x>" || hints[0].Get(headerAccepted) != "" {
		t.Error(hints)
	}
}

// upgrade echoes lines, as a WebSocket would messages.
var upgrade = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
	for {
		line, err := buf.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "echo "+line)
	}
})

func TestForwardedUpgrade(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		v := serve(t, store, with(&Server{Handler: upgrade, Drain: -1}))
		s := front(t, Forward(newClient(t, store)))
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		must(t, err)
		defer conn.Close()
		in := bufio.NewReader(conn)
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
		must(t, err)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
		for i := range 3 {
			fmt.Fprintf(conn, "%d\n", i)
			if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("echo %d\n", i) {
				t.Error(line, err)
			}
		}
		must(t, v.end())
		if line, err := in.ReadString('\n'); err == nil {
			t.Error(line)
		}
	})
}

// A handler that gives up half way breaks the client's answer, too.
func TestForwardedAbort(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})})
	s := front(t, Forward(newClient(t, store)))
	resp, err := http.Get(s.URL)
	must(t, err)
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%q looks whole", b)
	}
}

func TestForwardedErrors(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store, func(c *Client) { c.Hold = time.Millisecond })
	s := front(t, Forward(c))
	resp, _ := post(t, s.URL, "")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get(headerBegun) != "no" {
		t.Errorf("%+v", resp)
	}
	c.Hold = time.Minute
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })})
	resp, _ = post(t, s.URL, "")
	if resp.StatusCode != 502 || resp.Header.Get(headerOutcome) != "unknown" || resp.Header.Get(headerBegun) != "" {
		t.Errorf("%+v", resp)
	}
	if resp, _ = post(t, s.URL, "", headerKey, "a", headerKey, "b"); resp.StatusCode != 400 {
		t.Errorf("%+v", resp)
	}
}

// Two forwarders that take each other for the owner: the request goes no further than
// the second.
func TestForwardLoop(t *testing.T) {
	store := ownertest.NewMemory()
	var loop atomic.Pointer[http.Handler]
	var hops atomic.Int32
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hops.Add(1)
		(*loop.Load()).ServeHTTP(w, r)
	})}
	go srv.Serve(ln)
	defer srv.Close()
	o, err := owner.Join(context.Background(), owner.Config{Store: store, TTL: time.Minute, Endpoint: "tcp:" + ln.Addr().String()})
	must(t, err)
	defer o.Release()
	c := newClient(t, store, func(c *Client) { c.Hold = 20 * time.Millisecond })
	h := Forward(c)
	loop.Store(&h)
	began := time.Now()
	resp, _ := post(t, "http://"+ln.Addr().String(), "")
	if resp.StatusCode != 503 || resp.Header.Get(headerBegun) != "no" || time.Since(began) > 10*time.Second {
		t.Errorf("%+v", resp)
	}
	hops.Store(0)
	resp, _ = post(t, "http://"+ln.Addr().String(), "", headerForwarded, "1")
	if resp.StatusCode != 421 || hops.Load() != 1 {
		t.Errorf("%d hops, %+v", hops.Load(), resp)
	}
}

// The owner's process does not dial itself; the request is handled in process all the
// same, and ends with the ownership.
func TestLocal(t *testing.T) {
	store := ownertest.NewMemory()
	began := make(chan struct{})
	v := serve(t, store, &Server{
		Drain:   -1,
		Handler: says("the server's"),
		Listen: func(*owner.Owner) (net.Listener, string, error) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			return refusing{ln}, "tcp:" + ln.Addr().String(), nil
		},
	})
	c := newClient(t, store, func(c *Client) {
		c.Local = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				close(began)
				<-r.Context().Done()
			}
			_, _ = io.Copy(w, r.Body)
		})
	})
	if got := ask(t, c, "POST", "/", "local"); got != "local" {
		t.Error(got)
	}
	s := front(t, Forward(c))
	if _, got := post(t, s.URL, "x"); got != "x" {
		t.Error(got)
	}
	failed := make(chan error)
	go func() {
		_, err := c.RoundTrip(request(t, "POST", "/wait", nil))
		failed <- err
	}()
	<-began
	must(t, v.end())
	if err := <-failed; !errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
}

// refusing accepts no connection.
type refusing struct{ net.Listener }

func (l refusing) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		_ = c.Close()
	}
}

// The copies of a program: each answers its own clients, whichever owns.
func TestNodes(t *testing.T) {
	store := ownertest.NewMemory()
	var preparing atomic.Int32
	node := func(name string) (url string, end func()) {
		n := &Node{Config: owner.Config{Store: store, TTL: time.Minute}, Server: &Server{
			Prepare: func(context.Context, *owner.Owner) (http.Handler, error) {
				preparing.Add(1)
				return says(name), nil
			},
		}}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		s := front(t, n.Handler())
		go func() { done <- n.Run(ctx) }()
		return s.URL, func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}
	a, endA := node("a")
	if _, got := post(t, a, ""); got != "a" { // held until it owns, and is prepared
		t.Error(got)
	}
	b, endB := node("b")
	if _, got := post(t, b, ""); got != "a" {
		t.Error(got)
	}
	endA()
	if _, got := post(t, b, ""); got != "b" {
		t.Error(got)
	}
	if preparing.Load() != 2 {
		t.Error(preparing.Load())
	}
	endB()
}
