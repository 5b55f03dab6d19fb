// Command calls lets clients send requests to the owners of a few leases, through package
// reach, while those owners are killed, stopped, released, revoked, unhealthy and
// replaced. It then compares what the clients were told with what the servers have
// written down: no request is lost, none that cannot be repeated has run twice, and an
// outcome is unknown only where a fault has made it so.
//
//	go run -C lab ./calls -for 1m
//	go run -C lab ./calls -fault kill -unix -short -leases 1 -clients 32 -for 10m
//	go run -C lab ./calls -compare
//
// The last prints what package reach does at each fault beside plain net/http and a
// forwarder that does not retry, and what it costs.
//
// Half of the leases are served on the default Unix sockets, half on loopback TCP. A seed
// gives the same faults in the same order; what they meet depends on the machine's timing.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// options configure the run.
type options struct {
	seed     uint64
	duration time.Duration
	leases   int
	clients  int
	dir      string
	compare  bool
	fault    string        // the only one that is injected, "" for all
	think    time.Duration // how long a client waits between two requests, at most
	unix     bool          // no lease is served on TCP
	short    bool          // only requests that take no time by themselves
	worker   string        // the program that is the workers: this one, or a test's
}

func main() {
	workIfStarted()
	var o options
	flag.Uint64Var(&o.seed, "seed", 0, "gives the same faults in the same order again; 0 takes a new one")
	flag.DurationVar(&o.duration, "for", 0, "how long requests are sent; default 1m, with -compare 2s for each row")
	flag.IntVar(&o.leases, "leases", 4, "how many leases; every second is served on TCP")
	flag.IntVar(&o.clients, "clients", 8, "how many requests are under way to each lease")
	flag.StringVar(&o.fault, "fault", "", "inject only the fault of this name")
	flag.DurationVar(&o.think, "think", 0, "how long a client waits between two requests, at most; default 16ms")
	flag.BoolVar(&o.short, "short", false, "send only requests that take no time by themselves, so that a stall is what a fault costs")
	flag.BoolVar(&o.unix, "unix", false, "serve all leases on Unix sockets")
	flag.StringVar(&o.dir, "dir", "", "where to make the scratch folder; it is removed if there are no violations")
	flag.BoolVar(&o.compare, "compare", false, "compare with plain net/http and with a naive forwarder, and measure the cost of a request")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "calls: no arguments are expected; -help lists the flags")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "calls:", err)
		os.Exit(1)
	}
}

// run does what the options ask for. Its error lists the violations, or says why the run
// has failed.
func run(ctx context.Context, out io.Writer, o options) error {
	if err := o.resolve(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "calls-")
	if err != nil {
		return err
	}
	if o.compare {
		err = compare(ctx, out, o, dir)
	} else {
		err = torture(ctx, out, o, dir)
	}
	if err != nil {
		return fmt.Errorf("%w\nseed %d; the journals are in %s", err, o.seed, dir)
	}
	return os.RemoveAll(dir)
}

func (o *options) resolve() error {
	if o.leases < 1 || o.clients < 1 {
		return fmt.Errorf("%d leases and %d clients: there must be one of each", o.leases, o.clients)
	}
	if o.think < 0 {
		return fmt.Errorf("-think %v: it must not be negative", o.think)
	}
	o.think = cmp.Or(o.think, 16*time.Millisecond)
	if o.fault != "" && !slices.ContainsFunc(faults, func(f fault) bool { return f.name == o.fault }) {
		return fmt.Errorf("no fault has the name %q; the names are in the report of a run", o.fault)
	}
	if clock.Domain() == "" {
		return errors.New("the processes of this machine share no clock: their journals cannot be compared")
	}
	if o.duration == 0 {
		o.duration = time.Minute
		if o.compare {
			o.duration = 2 * time.Second
		}
	}
	for o.seed == 0 {
		o.seed = rand.Uint64() >> 32 // short enough to be copied by hand
	}
	var err error
	if o.worker == "" {
		o.worker, err = os.Executable()
	}
	return err
}

// torture runs, checks and reports.
func torture(ctx context.Context, out io.Writer, o options, dir string) error {
	fmt.Fprintf(out, "seed %d: %d leases, %d clients each, for %v on %s/%s\n", o.seed, o.leases, o.clients, o.duration, runtime.GOOS, runtime.GOARCH)
	d := &director{options: o, dir: dir, began: clock.Now()}
	h, err := d.run(ctx)
	if err != nil {
		return err
	}
	if err := writeRequests(dir, h); err != nil {
		return err
	}
	v := check(h)
	if err := report(out, h, v); err != nil {
		return err
	}
	return v.err()
}
