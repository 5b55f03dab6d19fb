package main

import (
	"math"
	"slices"
	"sync"
	"time"
)

// A job is one thing that is measured, as the page's last table calls it.
type job string

const (
	jobFsync      job = "append 512 bytes and fsync"
	jobRounds     job = "acquire and release"
	jobAgain      job = "acquire and release, at once again"
	jobKept       job = "acquire and release, session kept"
	jobRenewal    job = "renewal"
	jobKilled     job = "killed: until the next owns"
	jobHandover   job = "released: until the next owns"
	jobHang       job = "store hangs: slack at the signal"
	jobHangBoth   job = "store hangs: two at once"
	jobStop       job = "stopped: from the resume to the first no"
	jobStopWrong  job = "stopped: wrong first answer"
	jobStopBoth   job = "stopped: two at once"
	jobBehind     job = "removed or overwritten: until the signal"
	jobBehindBoth job = "removed or overwritten: two at once"
)

// never is longer than any wait.
const never = time.Duration(math.MaxInt64)

// results are the measurements, by job, and by peer or view.
type results struct {
	mu     sync.Mutex
	series map[seriesKey][]time.Duration
}

type seriesKey struct {
	job job
	who string
}

func newResults() *results { return &results{series: map[seriesKey][]time.Duration{}} }

func (r *results) add(j job, who string, took ...time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := seriesKey{j, who}
	r.series[k] = append(r.series[k], took...)
}

// of returns what was measured, sorted.
func (r *results) of(j job, who string) series {
	r.mu.Lock()
	defer r.mu.Unlock()
	return series(slices.Sorted(slices.Values(r.series[seriesKey{j, who}])))
}

// A series is sorted.
type series []time.Duration

// median of an even number is the upper of the two in the middle: something that
// was measured.
func (s series) median() time.Duration { return s[len(s)/2] }

func (s series) min() time.Duration { return s[0] }

func (s series) max() time.Duration { return s[len(s)-1] }

// longer returns how many are longer than d.
func (s series) longer(d time.Duration) (n int) {
	for _, x := range s {
		if x > d {
			n++
		}
	}
	return n
}

// ratio is how many times the one median is the other.
func (s series) ratio(to series) float64 { return float64(s.median()) / float64(to.median()) }
