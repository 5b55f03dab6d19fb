//go:build unix

// Command postgres compares elections in Postgres, on a server that it starts:
//
//	go run -C bench ./postgres
//
// owner keeps its lease by pgstore. River is a job queue whose clients elect a leader for
// what only one of them may do. The advisory lock is pg_advisory_lock on a connection.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ownerlease/owner/internal/pgtest"
)

func main() {
	if kind := os.Getenv(workerEnv); kind != "" {
		if err := work(kind); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", kind, err)
			os.Exit(1)
		}
		return
	}
	n := flag.Int("n", 15, "trials of each row")
	parallel := flag.Int("parallel", 6, "how many trials run at a time")
	quick := flag.Bool("quick", false, "a run that shows that everything works, and whose numbers mean little: -n 1 -parallel 25")
	flag.Parse()
	if *quick {
		*n, *parallel = 1, 25
	}
	if flag.NArg() > 0 || *n < 1 || *parallel < 1 {
		fmt.Fprintln(os.Stderr, "postgres takes flags only, and -n and -parallel are at least 1; see -help")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := compare(ctx, *n, *parallel); {
	case errors.Is(err, pgtest.ErrMissing):
		fmt.Fprintln(os.Stderr, err)
	case err != nil:
		fmt.Fprintln(os.Stderr, "postgres:", err)
		os.Exit(1)
	}
}

// compare runs all trials in random order, and prints the table.
func compare(ctx context.Context, n, parallel int) error {
	server, err := pgtest.New("fsync = on", "max_connections = 500")
	if err != nil {
		return err
	}
	defer server.Close()
	type row struct{ trial, kind int }
	var jobs []row
	for t := range trials {
		for k := range kinds {
			jobs = append(jobs, slices.Repeat([]row{{t, k}}, n)...)
		}
	}
	rand.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	var mu sync.Mutex
	outcomes := map[row][]outcome{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, job := range jobs {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			o, err := run(ctx, server.DSN(), kinds[job.kind], trials[job.trial])
			if err != nil {
				return fmt.Errorf("%s: %w", trials[job.trial].name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes[job] = append(outcomes[job], o)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Println("| the leader | election | the next leads after: median | worst | both lead: median | worst |")
	fmt.Println("|---|---|--:|--:|--:|--:|")
	for t := range trials {
		for k := range kinds {
			fmt.Printf("| %s | %s | %s |\n", trials[t].name, kinds[k], show(outcomes[row{t, k}]))
		}
	}
	return nil
}

// show is the end of a row.
func show(all []outcome) string {
	var next, both []time.Duration
	for _, o := range all {
		both = append(both, o.together)
		if o.next > 0 {
			next = append(next, o.next)
		}
	}
	took := fmt.Sprintf("– (stayed in all %d) | –", len(all))
	if len(next) > 0 {
		took = median(next)
		if len(next) < len(all) {
			took += fmt.Sprintf(" (stayed in %d of %d)", len(all)-len(next), len(all))
		}
	}
	return took + " | " + median(both)
}

// median is the median, the upper one of two, and the most.
func median(all []time.Duration) string {
	slices.Sort(all)
	return round(all[len(all)/2]) + " | " + round(all[len(all)-1])
}

func round(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < 100*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
