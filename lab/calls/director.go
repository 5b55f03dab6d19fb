package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/reach"
)

// byDirector is the journal of the director, in which the clients are.
const byDirector = "director"

// copies is how many workers contend for a lease.
const copies = 3

// A director starts the workers, sends the requests, and injects the faults.
type director struct {
	options
	dir    string
	began  time.Duration
	stderr *os.File
	runs   []*leaseRun
}

// A leaseRun is one lease, its workers and its clients.
type leaseRun struct {
	d       *director
	name    string
	path    string
	address string // of TCP, where its owners listen; "" on Unix sockets
	system  string // of the comparison
	load    time.Duration
	rng     *rand.Rand // draws the faults
	client  *reach.Client
	forward string // the address of a forwarder in this process
	end     func() error
	faults  []injected

	mu      sync.Mutex
	started []*process // all workers that there ever were
	workers []*process // those that contend now
	sent    []request
}

// run plays it all, and returns its history. Nothing that it has started is left then.
func (d *director) run(ctx context.Context) (*history, error) {
	var err error
	if d.stderr, err = os.Create(filepath.Join(d.dir, "stderr")); err != nil {
		return nil, err
	}
	defer d.stderr.Close()
	for i := 0; i < d.options.leases && err == nil; i++ {
		err = d.prepare(i)
	}
	if err == nil {
		err = d.play(ctx)
	}
	if err := errors.Join(err, d.close()); err != nil {
		return nil, err
	}
	return d.history()
}

// play sends requests and injects faults until the time is over.
func (d *director) play(ctx context.Context) error {
	j, err := openJournal(filepath.Join(d.dir, byDirector))
	if err != nil {
		return err
	}
	defer j.file.Close()
	noticing, end := context.WithCancel(context.Background())
	var notices, all sync.WaitGroup
	notices.Go(func() { noticePauses(noticing, j, longFreeze) })
	defer notices.Wait()
	defer end()
	ctx, cancel := context.WithTimeout(ctx, d.duration)
	defer cancel()
	failures := make(chan error, len(d.runs))
	for i, l := range d.runs {
		all.Go(func() { failures <- l.play(ctx) })
		for j := range d.clients {
			rng := rand.New(rand.NewPCG(d.seed, uint64(1000*(i+1)+j)))
			all.Go(func() { l.ask(ctx, rng, fmt.Sprintf("%d-%d", i+1, j+1)) })
		}
	}
	all.Wait()
	var errs []error
	for range d.runs {
		errs = append(errs, <-failures)
	}
	return errors.Join(errs...)
}

// prepare makes a lease and starts its workers. Every second lease is on TCP, unless all
// are to be on Unix sockets.
func (d *director) prepare(i int) error {
	l := &leaseRun{d: d, name: fmt.Sprint("lease", i+1), rng: rand.New(rand.NewPCG(d.seed, uint64(i)))}
	d.runs = append(d.runs, l)
	l.path = filepath.Join(d.dir, l.name)
	if i%2 == 1 && !d.unix {
		var err error
		if l.address, err = freePort(); err != nil {
			return err
		}
	}
	l.client = &reach.Client{LeasePath: l.path, Hold: hold}
	var err error
	if l.forward, l.end, err = serveHTTP(reach.Forward(l.client)); err != nil {
		return err
	}
	for range copies {
		if err := l.hire(); err != nil {
			return err
		}
	}
	return nil
}

// freePort returns a port of this machine that nothing listens on.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// hire starts a worker. Every second is a Node.
func (l *leaseRun) hire() error {
	l.mu.Lock()
	n := len(l.started)
	l.mu.Unlock()
	t := task{
		Worker: fmt.Sprintf("%s-worker%d", l.name, n+1), Lease: l.path, Address: l.address, Node: n%2 == 1 && l.system == "",
		System: l.system, Load: l.load, Moves: l.d.fault == "" && l.system == "",
	}
	t.Journal = filepath.Join(l.d.dir, t.Worker+".journal")
	p, err := start(l.d.worker, t, l.d.stderr)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = append(l.started, p)
	l.workers = append(l.workers, p)
	return nil
}

// dismiss takes a worker out of those that contend.
func (l *leaseRun) dismiss(p *process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rest []*process
	for _, other := range l.workers {
		if other != p {
			rest = append(rest, other)
		}
	}
	l.workers = rest
}

// owner is the worker that the record names, nil if there is none.
func (l *leaseRun) owner() *process {
	rec, err := owner.Inspect(l.path)
	if err != nil || rec.Released {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.workers {
		if p.pid() == rec.PID && !p.over() {
			return p
		}
	}
	return nil
}

// aNode is a worker with a port, nil if there is none.
func (l *leaseRun) aNode(rng *rand.Rand) *process {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range rng.Perm(len(l.workers)) {
		if l.workers[i].node != "" {
			return l.workers[i]
		}
	}
	return nil
}

// ask is a client: it sends one request after another.
func (l *leaseRun) ask(ctx context.Context, rng *rand.Rand, name string) {
	for i := 0; ctx.Err() == nil; i++ {
		r := draw(rng, fmt.Sprintf("%s-%d", name, i))
		if l.d.short {
			r.shorten(rng)
		}
		r.Lease, r.TCP = l.name, l.address != ""
		rt, host := l.route(rng, &r)
		if rt == nil {
			continue
		}
		r.send(context.WithoutCancel(ctx), rt, rng, host)
		if plain, ok := rt.(*http.Transport); ok {
			plain.CloseIdleConnections()
		}
		l.mu.Lock()
		l.sent = append(l.sent, r)
		l.mu.Unlock()
		wait(ctx, time.Duration(rng.Int64N(int64(l.d.think))))
	}
}

// route returns what carries a request and to which host, nil where there is no such way
// now. Plain HTTP gets a new connection for each request: on one that was used before,
// net/http may send a request again by itself.
func (l *leaseRun) route(rng *rand.Rand, r *request) (rt http.RoundTripper, host string) {
	switch r.Way {
	case forwarded:
		return &http.Transport{}, l.forward
	case viaNode, relayed:
		p := l.aNode(rng)
		if p == nil {
			return nil, ""
		}
		r.Target = p.Worker
		return &http.Transport{}, p.node
	case stale:
		return endpointTransport(l.path), "owner"
	}
	return l.client, "owner"
}

// endpointTransport is plain HTTP to the endpoint in the lease's record.
func endpointTransport(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		rec, err := owner.Inspect(path)
		if err != nil {
			return nil, err
		}
		network, addr, _ := strings.Cut(rec.Meta[owner.EndpointMetaKey], ":")
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
}

// close ends all that was started.
func (d *director) close() error {
	var errs []error
	for _, l := range d.runs {
		for _, p := range l.workers {
			p.leave()
		}
	}
	for _, l := range d.runs {
		for _, p := range l.started {
			errs = append(errs, p.await(2*drain))
		}
		if l.end != nil {
			errs = append(errs, l.end())
		}
		errs = append(errs, l.client.Close())
	}
	return errors.Join(errs...)
}

// A history is all that has happened. Its times count from the beginning.
type history struct {
	requests []request
	entries  []entry
	faults   []injected
}

func (d *director) history() (*history, error) {
	h := &history{}
	var err error
	if h.entries, err = readJournal(filepath.Join(d.dir, byDirector), byDirector, ""); err != nil {
		return nil, err
	}
	for _, l := range d.runs {
		h.requests = append(h.requests, l.sent...)
		h.faults = append(h.faults, l.faults...)
		for _, p := range l.started {
			all, err := readJournal(p.Journal, p.Worker, l.name)
			if err != nil {
				return nil, err
			}
			h.entries = append(h.entries, all...)
		}
	}
	h.countFrom(d.began)
	return h, nil
}

func (h *history) countFrom(began time.Duration) {
	for i := range h.requests {
		h.requests[i].Start -= began
		h.requests[i].End -= began
	}
	for i := range h.entries {
		h.entries[i].At -= began
		h.entries[i].To -= began
	}
	for i := range h.faults {
		h.faults[i].From -= began
		h.faults[i].To -= began
	}
}

// writeRequests puts what the clients were told, and the faults, beside the journals.
func writeRequests(dir string, h *history) error {
	f, err := os.Create(filepath.Join(dir, "clients.json"))
	if err != nil {
		return err
	}
	defer f.Close()
	w := json.NewEncoder(f)
	for _, r := range h.requests {
		if err := w.Encode(r); err != nil {
			return err
		}
	}
	for _, x := range h.faults {
		if err := w.Encode(x); err != nil {
			return err
		}
	}
	return f.Close()
}
