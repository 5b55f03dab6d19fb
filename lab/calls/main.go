// Command calls lets clients send requests to the owners of a few leases, through package
// reach, while those owners are killed, stopped, released, revoked, unhealthy and
// replaced. It then compares what the clients were told with what the servers have
// written down: no request is lost, none that cannot be repeated has run twice, and an
// outcome is unknown only where a fault has made it so.
//
//	go run -C lab ./calls -for 1m
//	go run -C lab ./calls -compare
//
// The second prints what package reach does at each fault beside plain net/http and a
// forwarder that does not retry, and what it costs.
//
// Half of the leases are served on the default Unix sockets, half on loopback TCP. A seed
// gives the same faults in the same order; what they meet depends on the machine's timing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
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
	worker   string // the program that is the workers: this one, or a test's
}

func main() {
	workIfStarted()
	var o options
	flag.Uint64Var(&o.seed, "seed", 0, "gives the same faults in the same order again; 0 takes a new one")
	flag.DurationVar(&o.duration, "for", 0, "how long requests are sent; default 1m, with -compare 2s for each row")
	flag.IntVar(&o.leases, "leases", 4, "how many leases; every second is served on TCP")
	flag.IntVar(&o.clients, "clients", 8, "how many requests are under way to each lease")
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
