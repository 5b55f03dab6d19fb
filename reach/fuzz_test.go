package reach

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// Whatever an owner answers, the call ends, and the client is told that nothing has begun
// only where the owner has said so or has written nothing. ID in the input is the owner's
// instance, so that an acknowledgement can be made of it.
func FuzzAnswer(f *testing.F) {
	const ack = "HTTP/1.1 103 Early Hints\r\nOwner-Accepted: ID\r\n\r\n"
	const notBegunAnswer = "HTTP/1.1 421 Misdirected Request\r\nOwner-Begun: no\r\nContent-Length: 0\r\n\r\n"
	for _, seed := range []string{
		"", ack, notBegunAnswer, ack + notBegunAnswer, ack + ack,
		ack + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTrailer: x\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes",
		"HTTP/1.1 421 Misdirected Request\r\nOwner-Begun: No\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nOwner-Accepted: another\r\n\r\n", "HTTP/1.1 103 Early", "\x00\r\n\r\n",
	} {
		f.Add(seed)
	}
	store := ownertest.NewMemory()
	var answer atomic.Value
	id := answerWith(f, store, &answer)
	f.Fuzz(func(t *testing.T, in string) {
		in = strings.ReplaceAll(in, "ID", id)
		answer.Store(in)
		c := &Client{Store: store}
		defer func() { must(t, c.Close()) }()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // what has not begun is tried again until then
		defer cancel()
		began := time.Now()
		resp, err := c.RoundTrip(request(t, "POST", "/", strings.NewReader("body")).WithContext(ctx))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		if errors.Is(err, ErrNoOwner) && !saysNotBegun(in) {
			t.Errorf("%v, though the owner has answered %q", err, in)
		}
	})
}

// answerWith owns the lease, and answers each connection with what answer has.
func answerWith(f *testing.F, store owner.Store, answer *atomic.Value) (instance string) {
	f.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(f, err)
	o, err := owner.Join(context.Background(), owner.Config{Store: store, TTL: time.Hour, Endpoint: "tcp:" + ln.Addr().String()})
	must(f, err)
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
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, answer.Load().(string))
				}
			}()
		}
	}()
	f.Cleanup(func() {
		_ = ln.Close()
		<-done
		_ = o.Release()
	})
	return o.InstanceID()
}

// saysNotBegun reports whether an answer is nothing, or the owner's word that no handler
// has begun.
func saysNotBegun(answer string) bool {
	if answer == "" {
		return true
	}
	for in := bufio.NewReader(strings.NewReader(answer)); ; {
		resp, err := http.ReadResponse(in, nil)
		switch {
		case err != nil:
			return false
		case resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols:
		default:
			return resp.StatusCode == http.StatusMisdirectedRequest && resp.Header.Get(headerBegun) == "no"
		}
	}
}

// Whatever headers a request has, a handler sees it only if it names this owner, once, or
// names none; and one that names it is acknowledged before. ID and EPOCH in the input are
// the owner's.
func FuzzRequestHeaders(f *testing.F) {
	for _, seed := range []string{
		"", "Owner-Instance: ID\r\nOwner-Epoch: EPOCH\r\n", "Owner-Instance: ID\r\n", "Owner-Epoch: EPOCH\r\n",
		"Owner-Instance: ID\r\nOwner-Instance: ID\r\nOwner-Epoch: EPOCH\r\n", "owner-instance: ID\r\nOWNER-EPOCH: EPOCH\r\n",
		"Owner-Instance: ID\r\nOwner-Epoch: 0EPOCH\r\n", "Owner-Instance: ID\r\nOwner-Epoch: +EPOCH\r\n",
		"Owner-Instance: ID, ID\r\nOwner-Epoch: EPOCH\r\n", "Owner-Instance: \r\nOwner-Epoch: 18446744073709551616\r\n",
		"Owner-Forwarded: 1\r\nOwner-Token: x\r\nIdempotency-Key: \r\n", "Expect: 100-continue\r\n", "Content-Length: 3\r\n",
	} {
		f.Add(seed)
	}
	var ran atomic.Bool
	store := ownertest.NewMemory()
	v := serve(f, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ran.Store(true)
		if r.Header[headerInstance] != nil || r.Header[headerEpoch] != nil || r.Header[headerToken] != nil {
			panic("the handler sees what is for the Server")
		}
	})})
	id, epoch := v.InstanceID(), strconv.FormatUint(v.Epoch(), 10)
	ses := sessionOf(id)
	for ; ses == nil; ses = sessionOf(id) {
		time.Sleep(time.Millisecond)
	}
	f.Fuzz(func(t *testing.T, headers string) {
		headers = strings.ReplaceAll(strings.ReplaceAll(headers, "ID", id), "EPOCH", epoch)
		text := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + "\r\n"
		ran.Store(false)
		acked := strings.HasPrefix(exchange(t, ses, text), "HTTP/1.1 103 ")
		allowed, addressed := addressedTo(text, id, epoch)
		if ran.Load() && !allowed {
			t.Errorf("a handler has seen %q", headers)
		}
		if ran.Load() && addressed && !acked {
			t.Errorf("a handler has seen %q before it was acknowledged", headers)
		}
		if !ran.Load() && acked {
			t.Errorf("%q was acknowledged, and no handler has seen it", headers)
		}
	})
}

// exchange sends a request to the session in this process, and returns what it answers.
func exchange(t *testing.T, s *session, text string) string {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := s.pipes.dial(ctx, nil)
	must(t, err)
	defer conn.Close()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = io.WriteString(conn, text)
	}()
	must(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond))) // a request may want a body
	out, _ := io.ReadAll(conn)
	_ = conn.Close()
	<-wrote
	return string(out)
}

// addressedTo reports whether a handler may see the request, and whether it names an owner.
func addressedTo(text, id, epoch string) (allowed, addressed bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return false, false
	}
	instances, epochs := r.Header[headerInstance], r.Header[headerEpoch]
	if len(instances)+len(epochs) == 0 {
		return true, false
	}
	return len(instances) == 1 && len(epochs) == 1 && instances[0] == id && epochs[0] == epoch, true
}
