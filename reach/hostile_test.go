package reach

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// pretend owns a lease, and answers each connection by a function.
func pretend(t *testing.T, store owner.Store, answer func(c net.Conn, req *http.Request)) *owner.Owner {
	t.Helper()
	dir, err := os.MkdirTemp("", "r")
	must(t, err)
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	must(t, err)
	o, err := owner.Join(context.Background(), owner.Config{Store: store, TTL: time.Minute, Endpoint: "unix:" + ln.Addr().String()})
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					answer(c, req)
				}
			}()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		_ = o.Release()
		_ = os.RemoveAll(dir)
	})
	return o
}

// acknowledge is what a Server writes.
func acknowledge(c net.Conn, req *http.Request) {
	fmt.Fprintf(c, "HTTP/1.1 103 Early Hints\r\nOwner-Accepted: %s\r\n\r\n", req.Header.Get(headerInstance))
}

// forever writes until the connection is closed.
func forever(c net.Conn, s string) {
	for {
		if _, err := io.WriteString(c, s); err != nil {
			return
		}
	}
}

// A server that does not keep to the protocol costs an error. That it has not begun is
// only believed where that is sure.
func TestHostileServers(t *testing.T) {
	// Nothing is wrong with these, but that no answer comes before the context ends.
	waits := map[string]bool{"silence": true, "the end": true, "ack and quiet": true, "421": true, "421 with an endless body": true}
	for name, x := range map[string]struct {
		answer  func(net.Conn, *http.Request)
		unknown bool // of a POST
	}{
		"garbage":         {func(c net.Conn, _ *http.Request) { forever(c, "garbage\n") }, true},
		"NULs":            {func(c net.Conn, _ *http.Request) { forever(c, strings.Repeat("\x00", 1000)) }, true},
		"half a header":   {func(c net.Conn, _ *http.Request) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le"); c.Close() }, true},
		"half an ack":     {func(c net.Conn, _ *http.Request) { io.WriteString(c, "HTTP/1.1 103 Early Hi"); c.Close() }, true},
		"endless 103":     {func(c net.Conn, _ *http.Request) { forever(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n") }, true},
		"endless 102":     {func(c net.Conn, _ *http.Request) { forever(c, "HTTP/1.1 102 Processing\r\n\r\n") }, true},
		"endless headers": {func(c net.Conn, _ *http.Request) { io.WriteString(c, "HTTP/1.1 200 OK\r\n"); forever(c, "X: y\r\n") }, true},
		"endless header":  {func(c net.Conn, _ *http.Request) { io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); forever(c, "yyyyyyyy") }, true},
		"endless ack":     {func(c net.Conn, r *http.Request) { acknowledge(c, r); acknowledge(c, r); forever(c, "") }, true},
		"another's ack": {func(c net.Conn, r *http.Request) {
			r.Header.Set(headerInstance, "another")
			acknowledge(c, r)
		}, true},
		"silence":       {func(c net.Conn, _ *http.Request) { io.Copy(io.Discard, c) }, false},
		"the end":       {func(c net.Conn, _ *http.Request) { c.Close() }, false},
		"ack and end":   {func(c net.Conn, r *http.Request) { acknowledge(c, r); c.Close() }, true},
		"ack and quiet": {func(c net.Conn, r *http.Request) { acknowledge(c, r); io.Copy(io.Discard, c) }, true},
		"421": {func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 421 Misdirected\r\nOwner-Begun: no\r\nContent-Length: 0\r\n\r\n")
		}, false},
		"421 with an endless body": {func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 421 Misdirected\r\nOwner-Begun: no\r\n\r\n")
			forever(c, "body")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := ownertest.NewMemory()
			pretend(t, store, x.answer)
			c := newClient(t, store)
			for _, method := range []string{"POST", "GET"} {
				patience := 20 * time.Second // what is wrong is seen before that
				if waits[name] {
					patience = 500 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				began := time.Now()
				_, err := c.RoundTrip(request(t, method, "/", nil).WithContext(ctx))
				cancel()
				if took := time.Since(began); err == nil || took > 10*time.Second {
					t.Errorf("%s: %v, after %v", method, err, took)
				}
				if method == "POST" && (errors.Is(err, ErrOutcomeUnknown) != x.unknown || errors.Is(err, ErrNoOwner) == x.unknown) {
					t.Errorf("%s: %v", method, err)
				}
			}
		})
	}
}

// Informational responses without end are an error before the context's.
func TestEndlessInformation(t *testing.T) {
	store := ownertest.NewMemory()
	pretend(t, store, func(c net.Conn, _ *http.Request) { forever(c, "HTTP/1.1 103 Early Hints\r\n\r\n") })
	if _, err := newClient(t, store).RoundTrip(request(t, "GET", "/", nil)); !errors.Is(err, errTooManyInfos) {
		t.Error(err)
	}
}

// An acknowledgement by an instance that was not asked is not waited upon.
func TestAnothersAcknowledgement(t *testing.T) {
	store := ownertest.NewMemory()
	pretend(t, store, func(c net.Conn, r *http.Request) {
		r.Header.Set(headerInstance, "another")
		acknowledge(c, r)
	})
	if _, err := newClient(t, store).RoundTrip(request(t, "POST", "/", nil)); !errors.Is(err, errNotByOwner) || !errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
}

// later sends a request, and the rest of its body when that can be.
func later(c *Client, r *http.Request, rest func() bool, body io.WriteCloser) <-chan *http.Response {
	answer := make(chan *http.Response, 1)
	go func() {
		resp, _ := c.RoundTrip(r)
		answer <- resp
	}()
	for !rest() && r.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	_, _ = io.WriteString(body, "body")
	_ = body.Close()
	return answer
}

// A body without end ends with the context.
func TestEndlessBody(t *testing.T) {
	store := ownertest.NewMemory()
	pretend(t, store, func(c net.Conn, r *http.Request) {
		acknowledge(c, r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		forever(c, "body")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	resp, err := newClient(t, store).RoundTrip(request(t, "GET", "/", nil).WithContext(ctx))
	must(t, err)
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// What other programs can have written into a record is not dialled.
func TestForgedEndpoints(t *testing.T) {
	for _, at := range []string{
		"unix:relative", "unix:", "unix:@abstract", "unix:/a\x00b", "unix:/" + strings.Repeat("x", 200),
		"tcp:nowhere", "tcp:127.0.0.1:0", "tcp:127.0.0.1:http", "tcp::80", "http://127.0.0.1:80/", "127.0.0.1:80", "unixgram:/x", "/x", "exec:/bin/sh",
	} {
		store := ownertest.NewMemory()
		o, err := owner.Join(context.Background(), owner.Config{Store: store, TTL: time.Minute, Endpoint: at})
		must(t, err)
		c := newClient(t, store)
		if _, err := c.RoundTrip(request(t, "GET", "/", nil)); err == nil || !strings.Contains(err.Error(), "endpoint") || errors.Is(err, ErrNoOwner) {
			t.Errorf("%q: %v", at, err)
		}
		if _, _, err := c.Dial(t.Context()); err == nil {
			t.Errorf("%q was dialled", at)
		}
		must(t, o.Release())
		if at != "" {
			s := &Server{Handler: echo, Listen: func(*owner.Owner) (net.Listener, string, error) {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				return ln, at, err
			}}
			v := serve(t, store, s)
			select {
			case <-v.done:
			case <-time.After(10 * time.Second):
			}
			if err := v.end(); err == nil {
				t.Errorf("a Server advertises %q", at)
			}
		}
	}
}

// An owner of the past, as the record of a restored folder names it, gets nothing.
func TestStaleEpoch(t *testing.T) {
	f := &follower{c: &Client{}, changed: make(chan struct{})} // one that watches nothing
	id := func(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n) }
	see := func(n int, epoch uint64) {
		f.see(owner.Record{InstanceID: id(n), Epoch: epoch, Meta: map[string]string{owner.EndpointMetaKey: fmt.Sprintf("unix:/%d", n)}}, nil)
	}
	check := func(n int) {
		t.Helper()
		now := f.state().now
		if n == 0 && now != nil || n != 0 && (now == nil || now.rec.InstanceID != id(n)) {
			t.Errorf("want %d, have %+v", n, now)
		}
	}
	see(5, 5)
	check(5)
	see(4, 4)
	check(5)
	f.see(owner.Record{}, nil)
	see(4, 4)
	check(0)
	see(6, 6)
	f.see(owner.Record{InstanceID: id(6)}, nil) // its record is missing
	f.see(owner.Record{}, errors.New("the disk hangs"))
	check(6)
}

// All that a connection has brought is read before a failed write is reported: an early
// answer is seen while the body is still being sent, and the connection is closed.
func TestAnswerBeforeTheBodyIsSent(t *testing.T) {
	store := ownertest.NewMemory()
	pretend(t, store, func(c net.Conn, r *http.Request) {
		acknowledge(c, r)
		time.Sleep(10 * time.Millisecond) // the writer is under way, and fills the socket
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
		c.Close()
	})
	c := newClient(t, store)
	for range 50 {
		resp, err := c.RoundTrip(request(t, "POST", "/", strings.NewReader(strings.Repeat("x", 4<<20))))
		if got := text(t, resp, err); got != "no" {
			t.Error(got)
		}
	}
}

// The acknowledgement that came before the end is never missed, with a body that cannot
// be written any more: the end of the owner's process looks like this.
func TestAcknowledgedAndClosed(t *testing.T) {
	for _, size := range []int{0, 100, 3 << 20} {
		store := ownertest.NewMemory()
		var begun atomic.Int32
		pretend(t, store, func(c net.Conn, r *http.Request) {
			begun.Add(1)
			acknowledge(c, r)
			c.Close()
		})
		c := newClient(t, store)
		for range 100 {
			begun.Store(0)
			_, err := c.RoundTrip(request(t, "POST", "/", strings.NewReader(strings.Repeat("x", size))))
			if !errors.Is(err, ErrOutcomeUnknown) || begun.Load() != 1 {
				t.Fatalf("%d bytes: begun %d times, %v", size, begun.Load(), err)
			}
		}
	}
}

// Before the acknowledgement, no more is sent than is kept, and a body of any size can be
// sent to the next owner.
func TestHugeBodyIsSentAgain(t *testing.T) {
	store := ownertest.NewMemory()
	var tries atomic.Int32
	pretend(t, store, func(c net.Conn, r *http.Request) {
		if tries.Add(1) < 3 {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // as much as comes
			_, _ = io.Copy(io.Discard, r.Body)
			c.Close()
			return
		}
		acknowledge(c, r)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n%8d", n)
	})
	const size = 3 << 20
	r := request(t, "POST", "/", io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
	resp, err := newClient(t, store).RoundTrip(r)
	if got := text(t, resp, err); got != fmt.Sprintf("%8d", size) {
		t.Error(got)
	}
	// Nor is a source waited for that gives nothing, when the connection has ended.
	tries.Store(1)
	in, out := io.Pipe()
	defer out.Close()
	resp = <-later(newClient(t, store), request(t, "POST", "/", in), func() bool { return tries.Load() == 3 }, out)
	if got := text(t, resp, nil); got != fmt.Sprintf("%8d", 4) {
		t.Error(got)
	}
	// With a key it could be sent again, but not this body.
	tries.Store(0)
	store = ownertest.NewMemory()
	pretend(t, store, func(c net.Conn, r *http.Request) {
		tries.Add(1)
		acknowledge(c, r)
		_, _ = io.CopyN(io.Discard, r.Body, 2<<20)
		c.Close()
	})
	r = request(t, "POST", "/", io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
	r.Header.Set(headerKey, "k")
	if _, err := newClient(t, store).RoundTrip(r); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, errBodyGone) || tries.Load() != 1 {
		t.Errorf("%d tries, %v", tries.Load(), err)
	}
}

// A request that has begun has an unknown outcome, whatever then keeps it from being sent
// again.
func TestBegunAndNotSentAgain(t *testing.T) {
	gone := errors.New("it has gone")
	for name, prepare := range map[string]func(c *Client, r *http.Request, begun *atomic.Bool){
		"refused by Accept": func(c *Client, _ *http.Request, begun *atomic.Bool) {
			c.Accept = func(owner.Record) error {
				if begun.Load() {
					return gone
				}
				return nil
			}
		},
		"no body": func(_ *Client, r *http.Request, _ *atomic.Bool) {
			r.GetBody = func() (io.ReadCloser, error) { return nil, gone }
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := ownertest.NewMemory()
			var begun atomic.Bool
			pretend(t, store, func(c net.Conn, r *http.Request) {
				acknowledge(c, r)
				begun.Store(true)
				_ = c.Close()
			})
			r := request(t, "POST", "/", strings.NewReader("x"))
			r.Header.Set("Idempotency-Key", "k")
			c := newClient(t, store, func(c *Client) { prepare(c, r, &begun) })
			_, err := c.RoundTrip(r)
			if !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNoOwner) || !errors.Is(err, gone) {
				t.Error(err)
			}
		})
	}
}

// A refusal without the end of its body does not keep the request from the next try.
func TestRefusalWithoutItsEnd(t *testing.T) {
	store := ownertest.NewMemory()
	pretend(t, store, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 421 Misdirected Request\r\nOwner-Begun: no\r\nContent-Length: 100\r\n\r\n")
	})
	c := newClient(t, store, func(c *Client) { c.Hold = 10 * time.Millisecond })
	if _, err := c.RoundTrip(request(t, "POST", "/", nil)); !errors.Is(err, ErrNoOwner) || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// net/http takes another header as well for a key, if it is spelled like this, by which it
// sends a request again that may have begun.
func TestOtherKeyIsNone(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Idempotency-Key"))
	})})
	r, spelled := request(t, "POST", "/", nil), false
	r.Header.Set("X-Idempotency-Key", "k")
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{WroteHeaderField: func(key string, _ []string) {
		spelled = spelled || key == "X-Idempotency-Key"
	}}))
	resp, err := newClient(t, store).RoundTrip(r)
	if got := text(t, resp, err); got != "k" || spelled {
		t.Errorf("the owner got %q; spelled in the way that net/http knows: %v", got, spelled)
	}
}
