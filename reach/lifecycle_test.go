package reach

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// At the end, what has begun is answered, and what comes later goes to the next owner.
func TestDrain(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		c := newClient(t, store)
		began, release := make(chan struct{}), make(chan struct{})
		big := strings.Repeat("x", 4<<20) // more than a socket holds
		first := serve(t, store, with(&Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(began)
			<-release
			_, _ = io.WriteString(w, big)
		})}))
		slow := askLater(t, c, "POST", "/", "")
		<-began
		first.cancel()
		for !first.gateClosed() {
			time.Sleep(time.Millisecond)
		}
		late := askLater(t, c, "POST", "/", "")
		if !first.IsOwner() {
			t.Error("does not own while it drains")
		}
		close(release)
		if got := <-slow; got != big {
			t.Errorf("%d bytes", len(got))
		}
		must(t, first.end())
		serve(t, store, with(&Server{Handler: says("next")}))
		if got := <-late; got != "next" {
			t.Errorf("%.9s", got)
		}
	})
}

// A response that is in a buffer when its handler has returned is waited for.
func TestDrainWaitsForTheWrite(t *testing.T) {
	store := ownertest.NewMemory()
	writes, release := make(chan struct{}), make(chan struct{})
	v := serve(t, store, &Server{Handler: says("late"), listenDefault: writing(func(p []byte) error {
		if strings.Contains(string(p), "late") {
			close(writes)
			<-release
		}
		return nil
	})})
	answer := askLater(t, newClient(t, store), "POST", "/", "")
	<-writes // its handler has returned
	v.cancel()
	select {
	case <-v.done:
		t.Error("Serve has returned before the response was written")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if got := <-answer; got != "late" {
		t.Error(got)
	}
	must(t, v.end())
}

// What takes longer than Drain is cut off; a handler that is still running is waited for.
func TestDrainEnds(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	began, returned := make(chan struct{}), make(chan struct{})
	v := serve(t, store, &Server{Drain: time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(returned)
	})})
	failed := make(chan error)
	go func() {
		_, err := c.RoundTrip(request(t, "POST", "/", nil))
		failed <- err
	}()
	<-began
	must(t, v.end())
	if !isClosed(returned) {
		t.Error("Serve has returned before the handler")
	}
	if err := <-failed; !errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
}

// A keep-alive connection is told that a request over it has not begun.
func TestNoRequestAfterTheGate(t *testing.T) {
	store := ownertest.NewMemory()
	began, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	v := serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() {
			close(began)
			<-release
		})
	})})
	slow, other := dialRaw(t, store), dialRaw(t, store)
	slow.send("")
	<-began
	v.cancel()
	for !v.gateClosed() {
		time.Sleep(time.Millisecond)
	}
	if !refuses(other) {
		t.Error("a request has begun after the gate was closed")
	}
	close(release)
	if got := slow.answer(); got.StatusCode != 200 || !got.Close {
		t.Errorf("%+v", got)
	}
}

func (v *service) gateClosed() bool {
	s := sessionOf(v.InstanceID())
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// At the loss everything is cut off, and the handlers' contexts end.
func TestLoss(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		c := newClient(t, store)
		began := make(chan struct{})
		cause := make(chan error, 1)
		v := &service{done: make(chan struct{})}
		var err error
		v.Owner, err = owner.Campaign(context.Background(), owner.Config{Store: store, TTL: 100 * time.Millisecond})
		must(t, err)
		go func() {
			defer close(v.done)
			v.err = with(&Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(began)
				<-r.Context().Done()
				cause <- context.Cause(r.Context())
			})}).Serve(t.Context(), v.Owner)
			_ = v.Release()
		}()
		failed := make(chan error)
		go func() {
			_, err := c.RoundTrip(request(t, "POST", "/", nil))
			failed <- err
		}()
		<-began
		store.Revoke()
		<-v.done
		if !errors.Is(v.err, owner.ErrRevoked) {
			t.Error(v.err)
		}
		if err := <-failed; !errors.Is(err, ErrOutcomeUnknown) {
			t.Error(err)
		}
		if err := <-cause; err == nil {
			t.Error("no cause")
		}
	})
}

// A hijacked connection ends with the ownership as well.
func TestHijackedEnds(t *testing.T) {
	store := ownertest.NewMemory()
	began := make(chan struct{})
	v := serve(t, store, &Server{Drain: -1, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		must(t, err)
		close(began)
		_, _ = io.Copy(io.Discard, conn)
	})})
	r := dialRaw(t, store)
	r.send("")
	<-began
	must(t, v.end())
	if _, err := r.in.ReadByte(); err == nil {
		t.Error("the connection is open")
	}
}

func TestIdle(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	release := make(chan struct{})
	v := serve(t, store, &Server{Idle: 20 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release })})
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(t, c, "GET", "/", "")
	}()
	time.Sleep(60 * time.Millisecond)
	if v.gateClosed() {
		t.Error("steps down while a request is under way")
	}
	close(release)
	<-done
	<-v.done
	if v.err != nil || v.State() != owner.StateReleased {
		t.Error(v.err, v.State())
	}
}

// Requests that arrive just as the owner decides to go are handled once, by it or by
// the next.
func TestIdleExitsWithArrivals(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		var handled, owners atomic.Int32
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for ctx.Err() == nil {
				owners.Add(1)
				s := with(&Server{Idle: 2 * time.Millisecond, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled.Add(1) })})
				err := owner.Run(ctx, owner.Config{Store: store, TTL: time.Minute}, s.Serve)
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		}()
		const clients, each = 4, 50
		for i := range clients {
			wg.Add(1)
			go func() {
				defer wg.Done()
				c := newClient(t, store)
				for j := range each {
					time.Sleep(2*time.Millisecond + time.Duration((i*7+j)%10)*50*time.Microsecond)
					ask(t, c, "POST", "/", "x")
				}
			}()
		}
		wg.Wait()
		cancel()
		<-ended
		if n := handled.Load(); n != clients*each {
			t.Errorf("%d requests, handled %d times", clients*each, n)
		}
		t.Logf("%d owners", owners.Load())
	})
}

// Handovers under load: no request fails, none runs twice.
func TestHandovers(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		store := ownertest.NewMemory()
		var handled atomic.Int32
		count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handled.Add(1)
			b, _ := io.ReadAll(r.Body) // without full duplex, writing ends the reading
			_, _ = w.Write(b)
		})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var sent atomic.Int32
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				c := newClient(t, store)
				for !isClosed(stop) {
					sent.Add(1)
					body := io.MultiReader(strings.NewReader(strings.Repeat("x", 100<<10)))
					resp, err := c.RoundTrip(request(t, "POST", "/", body))
					if err != nil {
						t.Error(err)
					} else if got := text(t, resp, nil); len(got) != 100<<10 {
						t.Errorf("%d bytes", len(got))
					}
				}
			}()
		}
		end := sync.OnceFunc(func() {
			close(stop)
			wg.Wait()
		})
		defer end()
		for range 20 {
			v := serve(t, store, with(&Server{Handler: count}))
			time.Sleep(5 * time.Millisecond)
			must(t, v.end())
		}
		v := serve(t, store, with(&Server{Handler: count}))
		end()
		must(t, v.end())
		if sent.Load() != handled.Load() {
			t.Errorf("%d sent, handled %d times", sent.Load(), handled.Load())
		}
	})
}

// A reader that takes its time delays the end, and gets all.
func TestSlowReader(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	v := serve(t, store, &Server{Handler: says(strings.Repeat("x", 2<<20))})
	resp, err := c.RoundTrip(request(t, "GET", "/", nil))
	must(t, err)
	v.cancel()
	select {
	case <-v.done:
		t.Error("the end did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	if got := text(t, resp, nil); len(got) != 2<<20 {
		t.Errorf("%d bytes", len(got))
	}
	must(t, v.end())
}

// A Node that ends lets what it forwards be answered.
func TestNodeEndsInOrder(t *testing.T) {
	store := ownertest.NewMemory()
	began, release := make(chan struct{}), make(chan struct{})
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-release
		_, _ = io.WriteString(w, "answered")
	})})
	n := &Node{Config: owner.Config{Store: store.Peer(), TTL: time.Minute}, Server: &Server{Handler: says("by the follower")}}
	n.reach().inProcess = false // as the owner is another process's
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	s, answer := front(t, n.Handler()), make(chan string, 1)
	go func() {
		_, got := post(t, s.URL, "x")
		answer <- got
	}()
	<-began
	cancel()
	select {
	case err := <-ended:
		t.Error("Run has returned, ", err)
	case <-time.After(50 * time.Millisecond): // it would have, most likely
	}
	close(release)
	if got := <-answer; got != "answered" {
		t.Error(got)
	}
	<-ended
}
