package reach

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
	"github.com/ownerlease/owner/start"
)

// Those who want more than CI does: go test ./reach -run IdleExits -idle-exits 10000 -v
var idleExits = flag.Int("idle-exits", 200, "how many servers are to step down as they are idle, in this process and with started ones")

// A local starts servers in this process, as start.Ensure does with others.
type local struct {
	t      *testing.T
	store  owner.Store
	server func() *Server

	mu     sync.Mutex
	wg     sync.WaitGroup
	starts int
	stop   context.CancelFunc
	ctx    context.Context
}

func newLocal(t *testing.T, store owner.Store, server func() *Server) *local {
	l := &local{t: t, store: store, server: server}
	l.ctx, l.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		l.stop()
		l.wg.Wait()
	})
	return l
}

func (l *local) client() *Client {
	return newClient(l.t, l.store, func(c *Client) { c.ensure = l.ensure })
}

func (l *local) ensure(ctx context.Context) (owner.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ctx.Err() == nil {
		view, err := l.store.Look(ctx)
		if err != nil {
			return owner.Record{}, err
		}
		if view.Holder.Meta[owner.EndpointMetaKey] != "" {
			return view.Holder, nil
		}
		if !view.Free() {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		l.starts++
		o, err := owner.Join(l.ctx, owner.Config{Store: l.store, TTL: time.Minute})
		if err != nil {
			return owner.Record{}, err
		}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			defer o.Release()
			if err := l.server().Serve(l.ctx, o); err != nil && l.ctx.Err() == nil && o.Check() == nil {
				l.t.Error(err)
			}
		}()
	}
	return owner.Record{}, context.Cause(ctx)
}

// A request that finds no owner has one started, and the next one finds it.
func TestStart(t *testing.T) {
	both(t, func(t *testing.T, with func(*Server) *Server) {
		l := newLocal(t, ownertest.NewMemory(), func() *Server { return with(&Server{Handler: says("started")}) })
		c := l.client()
		for range 3 {
			if got := ask(t, c, "POST", "/", ""); got != "started" {
				t.Error(got)
			}
		}
		conn, _, err := c.Dial(t.Context())
		must(t, err)
		must(t, conn.Close())
		if l.starts != 1 {
			t.Errorf("%d starts", l.starts)
		}
	})
}

// Where an instance owns, none is started, ready or not.
func TestNoStartWhileOwned(t *testing.T) {
	store := ownertest.NewMemory()
	release := make(chan struct{})
	serve(t, store, &Server{Prepare: func(ctx context.Context, _ *owner.Owner) (http.Handler, error) {
		<-release
		return says("it"), nil
	}})
	c := newClient(t, store, func(c *Client) {
		c.ensure = func(context.Context) (owner.Record, error) {
			t.Error("started one")
			return owner.Record{}, errors.New("not to be started")
		}
	})
	answer := askLater(t, c, "GET", "/", "")
	time.Sleep(20 * time.Millisecond)
	close(release)
	if got := <-answer; got != "it" {
		t.Error(got)
	}
}

// All that wait share a start, and get the reason of its failure; the next request tries
// again, and gets its owner.
func TestFailedStart(t *testing.T) {
	store := ownertest.NewMemory()
	var tries atomic.Int32
	var works atomic.Bool
	fail := make(chan struct{})
	l := newLocal(t, store, func() *Server { return &Server{Handler: says("at last")} })
	reason := errors.New("the reason")
	c := newClient(t, store, func(c *Client) {
		c.ensure = func(ctx context.Context) (owner.Record, error) {
			tries.Add(1)
			if works.Load() {
				return l.ensure(ctx)
			}
			<-fail
			return owner.Record{}, reason
		}
	})
	failed := make(chan error, 10)
	for range cap(failed) {
		r := request(t, "POST", "/", strings.NewReader("body"))
		go func() {
			_, err := c.RoundTrip(r)
			failed <- err
		}()
	}
	time.Sleep(20 * time.Millisecond) // all wait by now, most likely
	close(fail)
	for range cap(failed) {
		if err := <-failed; !errors.Is(err, ErrNoOwner) || !errors.Is(err, reason) {
			t.Error(err)
		}
	}
	if n := tries.Load(); n > 2 {
		t.Errorf("%d starts", n)
	}
	works.Store(true)
	began := time.Now()
	if got := ask(t, c, "POST", "/", ""); got != "at last" {
		t.Error(got)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("after %v", d)
	}
}

// Requests that come all the time do not start a command that fails all the time.
func TestFailedStartsPause(t *testing.T) {
	var tries atomic.Int32
	c := newClient(t, ownertest.NewMemory(), func(c *Client) {
		c.ensure = func(context.Context) (owner.Record, error) {
			tries.Add(1)
			return owner.Record{}, errors.New("the reason")
		}
	})
	for until := time.Now().Add(500 * time.Millisecond); time.Now().Before(until); {
		if _, err := c.RoundTrip(request(t, "GET", "/", nil)); !errors.Is(err, ErrNoOwner) {
			t.Fatal(err)
		}
	}
	if n := tries.Load(); n < 2 || n > 4 { // after 0, 100 and 300 ms
		t.Errorf("%d starts", n)
	}
}

// The Client's end, that of the request's context, and Hold end the wait.
func TestStartThatHangs(t *testing.T) {
	var began atomic.Int32
	hangs := func(c *Client) {
		c.ensure = func(ctx context.Context) (owner.Record, error) {
			began.Add(1)
			<-ctx.Done()
			return owner.Record{}, context.Cause(ctx)
		}
	}
	c := newClient(t, ownertest.NewMemory(), hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.RoundTrip(request(t, "POST", "/", nil).WithContext(ctx)); !errors.Is(err, ErrNoOwner) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	answer := askLater(t, c, "POST", "/", "")
	time.Sleep(20 * time.Millisecond)
	must(t, c.Close())
	if got := <-answer; !strings.Contains(got, "closed") {
		t.Error(got)
	}
	short := newClient(t, ownertest.NewMemory(), hangs, func(c *Client) { c.Hold = 20 * time.Millisecond })
	if _, err := short.RoundTrip(request(t, "POST", "/", nil)); !errors.Is(err, ErrNoOwner) || !strings.Contains(err.Error(), "20ms") {
		t.Error(err)
	}
	if n := began.Load(); n != 2 {
		t.Errorf("%d starts", n)
	}
}

// A Command that cannot be used is said to be so.
func TestStartThatIsRefused(t *testing.T) {
	c := newClient(t, ownertest.NewMemory(), func(c *Client) { c.Start = &start.Command{Path: "/there/is/none"} })
	_, err := c.RoundTrip(request(t, "GET", "/", nil))
	if !errors.Is(err, ErrNoOwner) || !errors.Is(err, owner.ErrInvalidConfig) || !strings.Contains(err.Error(), "Lock") {
		t.Error(err)
	}
	c = newClient(t, nil, func(c *Client) {
		c.LeasePath = filepath.Join(t.TempDir(), "lease")
		c.Start = &start.Command{Path: "/there/is/none"}
	})
	_, err = c.RoundTrip(request(t, "GET", "/", nil))
	if !errors.Is(err, ErrNoOwner) || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, exec.ErrNotFound) {
		t.Error(err)
	}
}

// Arrivals count the requests of a client that are sent around the moment at which the
// server steps down as it is idle.
type arrivals struct {
	requests, near, exits int
}

// arrive sends requests until so many servers have stepped down. Each comes within a
// millisecond of the moment at which the server of the one before has been idle for long
// enough, or later, as far as this process gets the processor then.
func arrive(t *testing.T, c *Client, idle time.Duration, exits int) (n arrivals) {
	last := ""
	for n.exits < exits && !t.Failed() {
		r, err := http.NewRequest("POST", "http://any/", strings.NewReader("body"))
		must(t, err)
		resp, err := c.RoundTrip(r)
		if err != nil {
			t.Errorf("request %d: %v", n.requests, err)
			return n
		}
		by := text(t, resp, nil)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("request %d: %s: %s", n.requests, resp.Status, by)
			return n
		}
		at := time.Now().Add(idle)
		n.requests++
		if last != "" && by != last {
			n.exits++
		}
		last = by
		time.Sleep(time.Until(at.Add(time.Duration(rand.Int64N(int64(2*time.Millisecond))) - time.Millisecond)))
		if off := time.Since(at); off.Abs() <= time.Millisecond {
			n.near++
		}
	}
	return n
}

// Servers step down as they are idle, while requests arrive at that moment: each is
// answered, by the server or by the next, and handled once.
func TestIdleExits(t *testing.T) {
	const idle, lanes = 3 * time.Millisecond, 4
	both(t, func(t *testing.T, with func(*Server) *Server) {
		var handled, servers atomic.Int64
		var mu sync.Mutex
		var all arrivals
		var wg sync.WaitGroup
		for range lanes {
			store, err := owner.FileStore(filepath.Join(t.TempDir(), "lease"))
			must(t, err)
			l := newLocal(t, store, func() *Server {
				id := fmt.Sprint(servers.Add(1))
				return with(&Server{Idle: idle, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					handled.Add(1)
					fmt.Fprint(w, id)
				})})
			})
			c := l.client()
			wg.Add(1)
			go func() {
				defer wg.Done()
				n := arrive(t, c, idle, *idleExits/lanes)
				mu.Lock()
				defer mu.Unlock()
				all.requests, all.near, all.exits = all.requests+n.requests, all.near+n.near, all.exits+n.exits
			}()
		}
		wg.Wait()
		if int(handled.Load()) != all.requests {
			t.Errorf("%d requests, handled %d times", all.requests, handled.Load())
		}
		t.Logf("%d servers stepped down under %d requests, %d of them sent within a millisecond of that moment", all.exits, all.requests, all.near)
	})
}

// Idle counts from the advertisement: no client could come before.
func TestIdleBeginsWithTheAdvertisement(t *testing.T) {
	const idle = 50 * time.Millisecond
	memory := ownertest.NewMemory()
	advertised := make(chan time.Time, 1)
	v := serve(t, slowStore{memory, func() {
		time.Sleep(2 * idle)
		advertised <- time.Now()
	}}, &Server{Handler: says("it"), Idle: idle})
	<-v.done
	if d := time.Since(<-advertised); v.err != nil || d < idle {
		t.Errorf("stepped down %v after the advertisement: %v", d, v.err)
	}
}

// A slowStore calls a function before each advertisement.
type slowStore struct {
	owner.Store
	before func()
}

func (s slowStore) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	a, err := s.Store.Acquire(ctx, claim)
	if a.Lease != nil {
		a.Lease = slowLease{a.Lease, s.before}
	}
	return a, err
}

type slowLease struct {
	owner.Lease
	before func()
}

func (l slowLease) Advertise(ctx context.Context, meta map[string]string) error {
	l.before()
	return l.Lease.Advertise(ctx, meta)
}
