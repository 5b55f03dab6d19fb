package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// manyColumns are those of many in one process, see many.
var manyColumns = []column{
	{"join, µs each", microsecond, each}, {"idle CPU, µs/s each", microsecond, each},
	{"heap and stacks, KB each", kilobyte, each}, {"RSS, KB each", kilobyte, each},
	{"descriptors", one, growth}, {"goroutines", one, growth},
	{"end, µs each", microsecond, each},
}

// many measures what begin begins. It is idle once it has had time to settle.
func (j *job) many(settle time.Duration, begin func() (end func() error, err error)) ([]float64, error) {
	before, err := measureFootprint()
	if err != nil {
		return nil, err
	}
	var end func() error
	join, _, err := j.part("join", func() (err error) { end, err = begin(); return err })
	if err != nil {
		return nil, err
	}
	time.Sleep(settle)
	idle, used, err := j.part("idle", func() error { time.Sleep(j.Rest); return nil })
	if err != nil {
		return nil, err
	}
	after, err := measureFootprint()
	if err != nil {
		return nil, err
	}
	ending, _, err := j.part("end", end)
	return []float64{
		float64(join), float64(used) / idle.Seconds(), after.heap - before.heap, after.rss - before.rss,
		after.fds - before.fds, after.goroutines - before.goroutines, float64(ending),
	}, err
}

// leases returns the paths of N leases from the First on, in folders that it makes, with
// this many in each.
func (j *job) leases(perFolder int) ([]string, error) {
	paths := make([]string, j.N)
	for i := range paths {
		dir := filepath.Join(j.Dir, fmt.Sprint((j.First+i)/perFolder))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		paths[i] = filepath.Join(dir, fmt.Sprint(j.First+i, ".lease"))
	}
	return paths, nil
}
