//go:build unix

// Command handover replaces a loaded service by its next version, in three ways, and counts
// what its clients have noticed:
//
//	go run -C bench ./handover
//
// owner is a reach.Server whose next version is a standby, and asks for the lease by
// owner.RequestHandover. tableflip is cloudflare/tableflip, which hands the listening socket
// on to the next process. restart ends the process in order, and then starts the next.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const clients = 32

func main() {
	if mode := os.Getenv(workerEnv); mode != "" {
		if err := work(mode); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", mode, err)
			os.Exit(1)
		}
		return
	}
	handovers := flag.Int("handovers", 10, "how many handovers there are in each row, one a second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *handovers); err != nil {
		fmt.Fprintln(os.Stderr, "handover:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, handovers int) error {
	fmt.Printf("%d clients, POSTs, %d handovers in each row, one a second\n\n", clients, handovers)
	fmt.Println("| requests a second | | sent | failed | run twice | median | p99 | worst |")
	fmt.Println("|--:|---|--:|--:|--:|--:|--:|--:|")
	for _, rate := range []int{200, 2000} {
		for _, w := range ways {
			r, err := play(ctx, w, rate, handovers)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			fmt.Printf("| %d | %s | %d | %d | %d | %v | %v | %v |\n", rate, w.name, len(r.took), r.failed, r.twice,
				r.percentile(50), r.percentile(99), r.percentile(100))
		}
	}
	return nil
}

// play is a row: clients send at the rate while the service is replaced.
func play(ctx context.Context, w way, rate, handovers int) (*result, error) {
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s := &service{mode: w.name, dir: dir}
	if s.address, err = freePort(); err != nil {
		return nil, err
	}
	defer s.end()
	if err := w.start(ctx, s); err != nil {
		return nil, err
	}
	transport, closeTransport := w.client(s)
	defer closeTransport()
	if err := awaitAnswer(ctx, transport); err != nil {
		return nil, err
	}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan []request)
	go func() { done <- send(sending, transport, rate) }()
	for range handovers {
		if !sleep(ctx, time.Second) {
			break
		}
		if err = w.replace(ctx, s); err != nil {
			break
		}
	}
	sleep(ctx, time.Second)
	stop()
	sent := <-done
	if err != nil {
		return nil, err
	}
	return judge(sent, s)
}

// A result is what the clients have noticed.
type result struct {
	took          []time.Duration // of all requests, sorted
	failed, twice int
}

// judge compares what the clients were told with the journal of all versions.
func judge(sent []request, s *service) (*result, error) {
	b, err := os.ReadFile(s.journal())
	if err != nil {
		return nil, err
	}
	ran := map[string]int{}
	for line := range strings.Lines(string(b)) {
		ran[strings.TrimSpace(line)]++
	}
	r := &result{}
	for _, x := range sent {
		r.took = append(r.took, x.took)
		if x.err != nil {
			r.failed++
		} else if ran[x.id] == 0 {
			return nil, fmt.Errorf("request %s was answered, and has not run", x.id)
		}
		if ran[x.id] > 1 {
			r.twice++
		}
	}
	slices.Sort(r.took)
	return r, nil
}

func (r *result) percentile(p int) time.Duration {
	if len(r.took) == 0 {
		return 0
	}
	return r.took[(len(r.took)-1)*p/100].Round(10 * time.Microsecond)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
