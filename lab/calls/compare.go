package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/reach"
)

// A system is a way to serve from the owner and to forward to it.
type system struct {
	name     string
	does     string
	follower func(l *leaseRun) (h http.Handler, end func())
}

const (
	systemPlain = "plain"
	systemNaive = "naive"
	systemReach = "reach"
)

var systems = []system{
	{systemPlain, "net/http at a fixed port, which the owner binds", func(l *leaseRun) (http.Handler, func()) {
		return plainFollower(l.address)
	}},
	{systemNaive, "one dial of the record's endpoint, no retry", func(l *leaseRun) (http.Handler, func()) {
		return naiveFollower(l.path)
	}},
	{systemReach, "reach.Server and reach.Forward", func(l *leaseRun) (http.Handler, func()) {
		c := &reach.Client{LeasePath: l.path, Hold: hold}
		return reach.Forward(c), func() { _ = c.Close() }
	}},
}

// A scenario is a fault, when it comes, and how long the next owner needs to load.
type scenario struct {
	name string
	at   []time.Duration
	load time.Duration
	do   func(*leaseRun, context.Context, *process) error
}

const loading = time.Second

var scenarios = []scenario{
	{"kill", []time.Duration{400 * time.Millisecond, time.Second}, 0, replaceKilled},
	{"release", []time.Duration{400 * time.Millisecond, time.Second}, 0, func(l *leaseRun, ctx context.Context, p *process) error {
		return l.release(ctx, p, nil)
	}},
	{"stop for 2 TTL", []time.Duration{400 * time.Millisecond}, 0, func(_ *leaseRun, _ context.Context, p *process) error {
		return stop(p, 2*ttl)
	}},
	{"kill, the next loads for 1 s", []time.Duration{200 * time.Millisecond}, loading, replaceKilled},
}

func replaceKilled(l *leaseRun, ctx context.Context, p *process) error { return l.kill(ctx, p, nil) }

// A row is what a scenario has done to the clients of a system.
type row struct {
	system, scenario string
	sent             int
	failed           int // of these, the client was not told that the outcome is unknown
	failedRun        int // of the failed, those that the journals say have begun
	unknown          int
	twice            int
	late             int // begun at an owner after a later one has begun
	stalls           []time.Duration
}

// pace is the time from one request to the next: 200 a second.
const pace = 5 * time.Millisecond

// giveUp is how long a client of the comparison waits.
const giveUp = 5 * time.Second

func compare(ctx context.Context, out io.Writer, o options, dir string) error {
	fmt.Fprintf(out, "%d POSTs a second through two followers, for %v each row; TTL %v\n", time.Second/pace, o.duration, ttl)
	for _, s := range systems {
		fmt.Fprintf(out, "  %s: %s\n", s.name, s.does)
	}
	rows, err := compareRows(ctx, o, dir, systems, scenarios)
	if err != nil {
		return err
	}
	printRows(out, rows)
	fmt.Fprintln(out, "late: run by an owner that was stopped, after a later owner has begun to serve")
	c, err := measure(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "a request on a Unix socket, median: %v by plain net/http, %v by reach: the acknowledgement and the fence take %v\n",
		c.plain.Round(100*time.Nanosecond), c.reach.Round(100*time.Nanosecond), (c.reach - c.plain).Round(100*time.Nanosecond))
	return nil
}

func compareRows(ctx context.Context, o options, dir string, systems []system, scenarios []scenario) ([]row, error) {
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	var rows []row
	for _, c := range scenarios {
		for _, s := range systems {
			d := &director{options: o, dir: filepath.Join(dir, fmt.Sprint("row", len(rows)+1)), began: clock.Now(), stderr: stderr}
			r, err := d.row(ctx, s, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", c.name, s.name, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// row plays a scenario.
func (d *director) row(ctx context.Context, s system, c scenario) (row, error) {
	r := row{system: s.name, scenario: c.name}
	if c.do == nil || c.name == scenarios[2].name && !canStop {
		return r, nil
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return r, err
	}
	l := &leaseRun{d: d, name: "lease", path: filepath.Join(d.dir, "lease"), system: s.name, load: c.load, client: &reach.Client{}}
	d.runs = []*leaseRun{l}
	var err error
	if s.name == systemPlain {
		l.address, err = freePort()
	}
	for i := 0; i < 2 && err == nil; i++ {
		err = l.hire()
	}
	if err == nil {
		err = l.playScenario(ctx, s, c, &r)
	}
	if err2 := d.close(); err == nil {
		err = err2
	}
	if err != nil {
		return r, err
	}
	h, err := d.history()
	r.judge(h)
	return r, err
}

// playScenario sends requests at the pace, through two followers in turn.
func (l *leaseRun) playScenario(ctx context.Context, s system, c scenario, r *row) error {
	var at [2]string
	for i := range at {
		h, closeFollower := s.follower(l)
		address, end, err := serveHTTP(h)
		if err != nil {
			return err
		}
		defer closeFollower()
		defer end()
		at[i] = address
	}
	client := &http.Transport{MaxIdleConnsPerHost: 100}
	defer client.CloseIdleConnections()
	if err := awaitAnswer(ctx, client, at[0]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.d.duration)
	defer cancel()
	faults := make(chan error, 1)
	go func() { faults <- l.faultsAt(ctx, c) }()
	var all sync.WaitGroup
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		all.Go(func() { l.askOnce(client, at[i%2], i) })
		<-tick.C
	}
	all.Wait()
	return <-faults
}

// faultsAt does the scenario's faults at their times.
func (l *leaseRun) faultsAt(ctx context.Context, c scenario) error {
	began := time.Now()
	for _, at := range c.at {
		if !wait(ctx, at-time.Since(began)) {
			return nil
		}
		p := l.owner()
		for ; p == nil && ctx.Err() == nil; p = l.owner() {
			wait(ctx, time.Millisecond)
		}
		if p == nil {
			return nil
		}
		if err := c.do(l, ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// awaitAnswer waits until the first owner serves.
func awaitAnswer(ctx context.Context, client *http.Transport, at string) error {
	for until := time.Now().Add(2 * patient); time.Now().Before(until) && ctx.Err() == nil; wait(ctx, 10*time.Millisecond) {
		r := request{ID: "first", Kind: keyed, Way: forwarded}
		r.ask(client, at, 0)
		if r.Outcome == answered {
			return nil
		}
	}
	return fmt.Errorf("no answer within %v", 2*patient)
}

func (l *leaseRun) askOnce(client *http.Transport, at string, i int) {
	r := request{ID: fmt.Sprint("r-", i), Kind: post, Way: forwarded, Lease: l.name}
	r.ask(client, at, uint64(i))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, r)
}

// judge counts. A request that has begun twice was forwarded to an owner that did not
// answer, and then to another.
func (r *row) judge(h *history) {
	begins := map[string]int{}
	var highest uint64
	for _, e := range h.begins() {
		begins[e.ID]++
		if highest = max(highest, e.Epoch); e.Epoch < highest {
			r.late++
		}
	}
	for _, x := range h.requests {
		r.sent++
		r.stalls = append(r.stalls, x.stall())
		n := begins[x.ID]
		if n > 1 {
			r.twice++
		}
		switch {
		case x.Outcome == unknown:
			r.unknown++
		case x.Outcome != answered && n > 0:
			r.failedRun++
			fallthrough
		case x.Outcome != answered:
			r.failed++
		}
	}
	slices.Sort(r.stalls)
}

func printRows(out io.Writer, rows []row) {
	fmt.Fprintf(out, "%-30s %-6s %6s %7s %10s %8s %6s %6s %10s %10s %10s\n", "", "", "sent", "failed", "(had run)", "unknown", "twice", "late", "median", "p99", "worst")
	last := ""
	for _, r := range rows {
		name := r.scenario
		if name == last {
			name = strings.Repeat(" ", len(name))
		}
		last = r.scenario
		fmt.Fprintf(out, "%-30s %-6s %6d %7d %10d %8d %6d %6d %10v %10v %10v\n", name, r.system, r.sent, r.failed, r.failedRun, r.unknown, r.twice, r.late,
			percentile(r.stalls, 50), percentile(r.stalls, 99), percentile(r.stalls, 100))
	}
}
