//go:build unix

package main

import (
	"slices"
	"time"
)

// An interval is a time in which a process believed that it leads.
type interval struct{ from, to time.Duration }

// patience is how long a belief lasts without a sign: two signs that are further apart are
// of two intervals. It is longer than any contender's pause between two signs.
const patience = 100 * time.Millisecond

// believes makes intervals of the times at which a process believed it, in order.
func believes(signs []time.Duration) (all []interval) {
	for _, at := range signs {
		if n := len(all); n > 0 && at-all[n-1].to <= patience {
			all[n-1].to = at
		} else {
			all = append(all, interval{at, at})
		}
	}
	return all
}

// together is for how long both believed it.
func together(a, b []interval) (sum time.Duration) {
	for _, x := range a {
		for _, y := range b {
			sum += max(0, min(x.to, y.to)-max(x.from, y.from))
		}
	}
	return sum
}

// firstAfter is the first sign that is not earlier.
func firstAfter(signs []time.Duration, at time.Duration) (time.Duration, bool) {
	i, _ := slices.BinarySearch(signs, at)
	if i == len(signs) {
		return 0, false
	}
	return signs[i], true
}
