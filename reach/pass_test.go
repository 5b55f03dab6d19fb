package reach

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner/ownertest"
)

// dialFront connects to a forwarder, as a client of its own.
func dialFront(t *testing.T, h http.Handler) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", front(t, h).Listener.Addr().String())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn, bufio.NewReader(conn)
}

// The answer begins before the request has ended, also by way of a forwarder.
func TestForwardedStream(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: http.HandlerFunc(talk)})
	conn, in := dialFront(t, Forward(newClient(t, store)))
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
	must(t, err)
	resp, err := http.ReadResponse(in, nil)
	must(t, err)
	got := make([]byte, 1)
	for i := range 5 {
		if i > 0 {
			fmt.Fprintf(conn, "1\r\n%c\r\n", 'a'+i)
		}
		if _, err := io.ReadFull(resp.Body, got); err != nil || got[0] != byte('a'+i) {
			t.Fatal(i, got, err)
		}
	}
	_, err = io.WriteString(conn, "0\r\n\r\n")
	must(t, err)
}

func TestForwardedTrailers(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v", b, r.Trailer)
	})})
	r := request(t, "POST", "/", io.MultiReader(strings.NewReader("x")))
	var err error
	r.URL, err = url.Parse(front(t, Forward(newClient(t, store))).URL)
	must(t, err)
	r.Trailer = http.Header{"Sum": {"1"}}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if got := text(t, resp, err); got != "x map[Sum:[1]]" {
		t.Error(got)
	}
}

// Where a protocol that was switched to ends one direction, the other goes on.
func TestUpgradedHalfClose(t *testing.T) {
	counts := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: count\r\n\r\n")
		b, err := io.ReadAll(buf)
		fmt.Fprintf(conn, "%d bytes, %v", len(b), err)
	})
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: counts})
	r := request(t, "GET", "/", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "count")
	resp, err := newClient(t, store).RoundTrip(r)
	must(t, err)
	both := resp.Body.(io.ReadWriteCloser)
	defer both.Close()
	_, err = io.WriteString(both, "hello")
	must(t, err, both.(interface{ CloseWrite() error }).CloseWrite())
	if got, err := io.ReadAll(both); string(got) != "5 bytes, <nil>" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A bad key is refused by each copy, whichever owns.
func TestBadKeyAtANode(t *testing.T) {
	store := ownertest.NewMemory()
	serve(t, store, &Server{Handler: says("begun")})
	for name, change := range map[string]func(*Client){
		"in process": func(c *Client) { c.Local = says("begun in process") },
		"forwarded":  func(*Client) {},
	} {
		s := front(t, Forward(newClient(t, store, change)))
		for _, key := range []string{"", strings.Repeat("x", 256)} {
			if resp, got := post(t, s.URL, "", "Idempotency-Key", key); resp.StatusCode != 400 || resp.Header.Get("Owner-Begun") != "no" {
				t.Errorf("%s, %d bytes: %s %s", name, len(key), resp.Status, got)
			}
		}
	}
}

// "OPTIONS *" is a request as others are.
func TestOptionsOfTheServer(t *testing.T) {
	store := ownertest.NewMemory()
	v := serve(t, store, &Server{Handler: says("hi"), listenDefault: tcp})
	c := newClient(t, store)
	r := request(t, "OPTIONS", "/", nil)
	r.URL = &url.URL{Scheme: "http", Host: "x", Opaque: "*"}
	resp, err := c.RoundTrip(r)
	if got := text(t, resp, err); got != "hi" {
		t.Errorf("%q", got)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(v.Endpoint(), "tcp:"))
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Error("without the secret: ", resp, err)
	}
}
