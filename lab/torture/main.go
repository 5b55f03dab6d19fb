// Command torture lets many processes contend for a few leases, injects faults into them
// and their files, and has the history checked: that there were never two valid owners,
// and never a free lease that no standby acquired.
//
//	go run -C lab ./torture -for 1m
//
// As root on Linux, every second process of each lease but the first is in its own pid
// namespace, as in a container.
//
// A seed gives the same faults again, in the same order and after the same pauses.
// What they meet, it does not give again: that is the machine's timing.
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
	"strings"
	"syscall"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// options configure the run.
type options struct {
	seed     uint64
	duration time.Duration
	workers  int
	leases   int
	dir      string
	faults   string
	worker   string
	patience time.Duration
	decide   time.Duration
}

func main() {
	bePart()
	var o options
	flag.Uint64Var(&o.seed, "seed", 0, "gives the same faults in the same order again; 0 takes a new one")
	flag.DurationVar(&o.duration, "for", time.Minute, "how long; each fault is played once, however long that takes")
	flag.IntVar(&o.workers, "workers", 12, "how many processes contend")
	flag.IntVar(&o.leases, "leases", 3, "for how many leases")
	flag.StringVar(&o.dir, "dir", "", "where to make the scratch folder; it is removed if all is well")
	flag.StringVar(&o.faults, "faults", "", "which faults, separated by commas; all that this machine allows if empty: "+strings.Join(names(), ", "))
	flag.StringVar(&o.worker, "worker", "", "this program, built from other sources, to be the workers: for a library that is broken on purpose")
	flag.DurationVar(&o.patience, "patience", 10*time.Second, "how long a lease may be free and wanted, and not owned")
	flag.DurationVar(&o.decide, "decide", time.Minute, "how long the checker of orders may take")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "torture: no arguments are expected; -help lists the flags")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := torture(ctx, os.Stdout, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// torture runs, checks, and reports. An error says that a rule was broken, or that the
// run failed.
func torture(ctx context.Context, out io.Writer, o options) error {
	if err := o.resolve(); err != nil {
		return err
	}
	chosen, err := o.choose(out)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "torture-")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "seed %d: %d workers, %d leases, for %v on %s/%s\n", o.seed, o.workers, o.leases, o.duration, runtime.GOOS, runtime.GOARCH)
	d := &director{options: o, dir: dir, chosen: chosen, began: clock.Now()}
	err = d.run(ctx, out)
	r, unread := d.report()
	if unread == nil {
		err = errors.Join(err, r.print(out))
	}
	err = errors.Join(err, unread)
	if err == nil {
		return os.RemoveAll(dir)
	}
	return fmt.Errorf("%w\nseed %d; the logs are in %s", err, o.seed, dir)
}

func (o *options) resolve() error {
	if o.leases < 1 || o.workers < 2*o.leases {
		return fmt.Errorf("%d workers for %d leases: each lease needs two", o.workers, o.leases)
	}
	if clock.Domain() == "" {
		return errors.New("the processes of this machine share no clock: their readings cannot be compared")
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

// bePart makes this process a worker or the keeper of a disk, if the director has
// started it as one, and then does not return. It must come first in main.
func bePart() {
	switch part := os.Getenv(partEnv); part {
	case "":
	case "worker":
		os.Exit(beWorker())
	case "disk":
		os.Exit(beKeeper())
	case "nobody": // of a burst of forks
		os.Exit(0)
	default:
		fmt.Fprintf(os.Stderr, "torture: %s is %q\n", partEnv, part)
		os.Exit(2)
	}
}

// partEnv says which part a process of this program plays. It is no interface.
const partEnv = "_OWNER_TORTURE"
