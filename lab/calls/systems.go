package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/reach"
)

// The services that package reach is compared with, as they are written without it.

// servePlain serves at the lease's port while this process owns.
func (w *worker) servePlain(ctx context.Context, o *owner.Owner) error {
	w.load(ctx)
	ln, err := net.Listen("tcp", w.Address)
	for err != nil && ctx.Err() == nil { // the owner before is stopped, and has the port
		wait(ctx, 10*time.Millisecond)
		ln, err = net.Listen("tcp", w.Address)
	}
	if err != nil {
		return nil
	}
	return serveUntil(ctx, ln, w.handler(o))
}

// serveNaive tells the followers where it is as soon as it owns, though it loads still.
func (w *worker) serveNaive(ctx context.Context, o *owner.Owner) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := o.Advertise(ctx, ln.Addr().String(), nil); err != nil {
		_ = ln.Close()
		return err
	}
	var loaded atomic.Bool
	h := w.handler(o)
	go func() {
		w.load(ctx)
		loaded.Store(true)
	}()
	return serveUntil(ctx, ln, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !loaded.Load() {
			http.Error(rw, "loading", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(rw, r)
	}))
}

// serveUntil finishes what is under way when ctx ends.
func serveUntil(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(ln) }()
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if srv.Shutdown(end) != nil {
		_ = srv.Close()
	}
	return nil
}

// plainFollower forwards to a port.
func plainFollower(address string) (http.Handler, func()) {
	return proxyTo(new(http.Transport), address)
}

// naiveFollower forwards to the endpoint that the record has, by one dial each.
func naiveFollower(lease string) (http.Handler, func()) {
	return proxyTo(&http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		rec, err := owner.Inspect(lease)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, "tcp", rec.Meta[owner.EndpointMetaKey])
	}}, "owner")
}

func proxyTo(t *http.Transport, host string) (http.Handler, func()) {
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	p.Transport, p.ErrorLog = t, log.New(io.Discard, "", 0)
	return p, t.CloseIdleConnections
}

// ask sends a request of the comparison. The seed draws how much work it is: the same for
// all systems.
func (r *request) ask(client *http.Transport, at string, seed uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	r.send(ctx, client, rand.New(rand.NewPCG(seed, 0)), at)
}

// A cost is what a request takes.
type cost struct{ plain, reach time.Duration }

const (
	costRounds   = 30
	costRequests = 200
)

// measure compares the same handler on plain net/http and behind a Server, both on Unix
// sockets and in turns: what else the machine does meets both.
func measure(ctx context.Context, dir string) (cost, error) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	at := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", at)
	if err != nil {
		return cost{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 2)
	go func() { done <- serveUntil(ctx, ln, h) }()
	lease := filepath.Join(dir, "cost")
	go func() {
		done <- owner.Run(ctx, owner.Config{LeasePath: lease, TTL: time.Minute}, (&reach.Server{Handler: h}).Serve)
	}()
	plain := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", at)
	}}
	client := &reach.Client{LeasePath: lease}
	c, err := alternate(plain, client)
	plain.CloseIdleConnections()
	err = errors.Join(err, client.Close())
	cancel()
	for range 2 {
		if e := <-done; e != nil && !errors.Is(e, context.Canceled) {
			err = errors.Join(err, e)
		}
	}
	return c, err
}

// alternate times rounds of requests to both.
func alternate(plain, client http.RoundTripper) (cost, error) {
	var took [2][]time.Duration
	for range costRounds {
		for i, rt := range []http.RoundTripper{plain, client} {
			for range costRequests {
				began := time.Now()
				if err := echoed(rt); err != nil {
					return cost{}, err
				}
				took[i] = append(took[i], time.Since(began))
			}
		}
	}
	median := func(all []time.Duration) time.Duration {
		slices.Sort(all)
		return all[len(all)/2]
	}
	return cost{median(took[0]), median(took[1])}, nil
}

func echoed(rt http.RoundTripper) error {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	r := request{Kind: post, Way: direct, ID: "1"}
	req, err := r.build(ctx, rand.New(rand.NewPCG(1, 1)), "owner")
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %w", resp.StatusCode, err)
	}
	return nil
}
