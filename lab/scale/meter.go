package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
)

// Units for columns.
const (
	one         = 1
	kilobyte    = 1000
	megabyte    = 1000 * 1000
	microsecond = float64(time.Microsecond)
	millisecond = float64(time.Millisecond)
)

// part does one part of a row, leaves its CPU profile if asked for, and returns
// how long it took, and the CPU time of this process.
func (j *job) part(name string, do func() error) (took, used time.Duration, err error) {
	stop, err := j.profile(name)
	if err != nil {
		return 0, 0, err
	}
	defer stop()
	before, err := cpu(os.Getpid())
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	err = do()
	took = time.Since(start)
	after, cerr := cpu(os.Getpid())
	if err == nil {
		err = cerr
	}
	return took, after - before, err
}

func (j *job) profile(name string) (stop func(), err error) {
	if j.Profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(j.Profile, fmt.Sprintf("%s-%d-%s.pprof", j.Scenario, j.N, name)))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

// A footprint is what this process takes up.
type footprint struct{ heap, rss, fds, goroutines float64 }

func measureFootprint() (footprint, error) {
	heap := heap() // first: it collects
	rss, fds, err := sizes(os.Getpid())
	return footprint{heap, rss, fds, float64(runtime.NumGoroutine())}, err
}

// heap returns the bytes in use, stacks included. A collection halves a stack
// that is not needed.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

func median(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)/2])
}

// all is how many of n can be measured where there is no limit.
func all(n int) (int, string) { return n, "" }

// withDescriptors is for what keeps some descriptors open for each.
func withDescriptors(each int) func(n int) (int, string) {
	const spare = 50
	return func(n int) (int, string) {
		need := uint64(each*n + spare)
		limit := raiseDescriptors(need)
		if need <= limit {
			return n, ""
		}
		m := int(limit-min(limit, spare)) / each
		return m, fmt.Sprintf("%s take %s descriptors, and this machine's limit is %s (`ulimit -Hn`): measured with %s instead.",
			thousands(n), thousands(int(need)), thousands(int(limit)), thousands(m))
	}
}

// withHints returns how many of a user's processes have hints, where not all do.
func withHints(n int) (int, string) {
	limit := hinted()
	if n < limit {
		return n, ""
	}
	return n, fmt.Sprintf("%s processes have hints, as a user has no more inotify instances here (fs.inotify.max_user_instances). The others look every second.",
		thousands(limit))
}

// onlyWithHints leaves out more processes than can have hints.
func onlyWithHints(n int) (int, string) {
	m, why := withHints(n)
	if why == "" {
		return m, ""
	}
	return 0, "No more are measured than have hints: " + why
}
