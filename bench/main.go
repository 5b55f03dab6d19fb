// Command bench compares owner with its alternatives: etcd's concurrency package,
// client-go's leaderelection, and a bare gofrs/flock. It measures all of them in one run,
// and writes a page and a picture:
//
//	go run -C bench .
//
// Two commands beside it measure what the page has from other runs: ./handover and
// ./postgres.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	if spec, ok := os.LookupEnv(childEnv); ok {
		os.Exit(runChild(spec))
	}
	var o options
	flag.IntVar(&o.trials, "n", 15, "trials of each job that takes processes; what one process does alone is done ten times as often")
	flag.IntVar(&o.parallel, "parallel", 8, "how many of the trials that wait for timeouts run at a time")
	quick := flag.Bool("quick", false, "a run that shows that everything works, and whose numbers mean little: -n 2 -parallel 12")
	out := flag.String("o", "../docs/comparison.md", "the page to write; the picture is put beside it, as .svg")
	flag.Parse()
	if *quick {
		o.trials, o.parallel = 2, 12
	}
	if flag.NArg() > 0 || o.trials < 1 || o.parallel < 1 {
		fmt.Fprintln(os.Stderr, "bench takes flags only, and -n and -parallel are at least 1; see -help")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := compare(ctx, o, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	trials   int // of jobs with processes
	parallel int // of those that wait for timeouts
}

// loops is how often a process repeats what it does alone.
func (o options) loops() int { return 10 * o.trials }

// compare measures everything, and writes the page and the picture.
func compare(ctx context.Context, o options, out string) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "owner-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the leases: %w", err)
	}
	defer os.RemoveAll(dir)
	b, err := newBench(dir, o)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.run(ctx); err != nil {
		return err
	}
	picture := pictureBeside(out)
	p := newPage(b.results, o, time.Since(began), filepath.Base(picture))
	text, err := p.markdown()
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, text, 0o644); err != nil {
		return fmt.Errorf("write the page (choose its path with -o): %w", err)
	}
	if err := os.WriteFile(picture, p.svg(), 0o644); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	fmt.Fprintf(os.Stderr, "wrote %s and %s after %v\n", out, picture, time.Since(began).Round(time.Second))
	return nil
}
