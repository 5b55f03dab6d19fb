package demo

import (
	"cmp"
	"slices"
	"time"
)

// A timeline is what has happened. Its times count from the beginning.
type timeline struct {
	stories   []*story
	takeovers []takeover
	samples   int
	end       time.Duration
}

// A story is the trace of one process.
type story struct {
	name    string
	pid     int
	began   time.Duration
	owned   []span
	stopped []span
	left    time.Duration // 0: it stayed
	killed  bool
	marks   []mark
}

type span struct{ from, to time.Duration }

func (s span) has(t time.Duration) bool { return s.from <= t && t < s.to }

// A mark is something that was done to a process.
type mark struct {
	at   time.Duration
	what string
}

// A takeover is a change of owner: what made it, and when the successor owned.
type takeover struct {
	of, by   string
	cause    string        // such as "A is killed"
	after    string        // such as "the kill"
	from, at time.Duration // from when on it could come, and when it came
}

func (t takeover) took() time.Duration { return t.at - t.from }

// sampled records an answer of IsOwner: a true one is true for some moment between asked
// and answered. So an ownership is certain from when the first was answered to when the
// last was asked.
func (s *story) sampled(asked, answered time.Duration, first bool) {
	if first {
		s.owned = append(s.owned, span{from: answered})
	}
	last := &s.owned[len(s.owned)-1]
	last.to = max(last.from, asked)
}

// fenced extends the last ownership to its deadline: no sample can have been taken
// in a process that was stopped, and IsOwner would have been true until then.
func (s *story) fenced(at time.Duration) {
	if len(s.owned) > 0 {
		last := &s.owned[len(s.owned)-1]
		last.to = max(last.to, at)
	}
}

// shift moves the trace on its clock.
func (s *story) shift(by time.Duration) {
	s.began += by
	if s.left > 0 {
		s.left += by
	}
	for _, spans := range [][]span{s.owned, s.stopped} {
		for i := range spans {
			spans[i].from += by
			spans[i].to += by
		}
	}
	for i := range s.marks {
		s.marks[i].at += by
	}
}

// A phase is what a process does at a moment.
type phase int

const (
	absent phase = iota
	waiting
	owning
	stoppedOwning // its lease is valid, but it does nothing
	stopped
	gone
)

func (s *story) at(t time.Duration) phase {
	within := func(s span) bool { return s.has(t) }
	owns := slices.ContainsFunc(s.owned, within)
	switch {
	case t < s.began:
		return absent
	case s.left > 0 && t >= s.left:
		return gone
	case slices.ContainsFunc(s.stopped, within):
		if owns {
			return stoppedOwning
		}
		return stopped
	case owns:
		return owning
	}
	return waiting
}

// A bar is a time in which a process stays in one phase.
type bar struct {
	span
	phase phase
}

// bars are all until the end, without gaps.
func (s *story) bars(end time.Duration) []bar {
	cuts := []time.Duration{0, s.began, s.left, end}
	for _, sp := range slices.Concat(s.owned, s.stopped) {
		cuts = append(cuts, sp.from, sp.to)
	}
	slices.Sort(cuts)
	var bars []bar
	for i, from := range cuts[:len(cuts)-1] {
		to := min(cuts[i+1], end)
		switch p := s.at(from); {
		case from >= to:
		case len(bars) > 0 && bars[len(bars)-1].phase == p:
			bars[len(bars)-1].to = to
		default:
			bars = append(bars, bar{span{from, to}, p})
		}
	}
	return bars
}

// A verdict says whether there were two owners at once.
type verdict struct {
	overlap *OverlapError // nil: never
	closest time.Duration // from one ownership to the next
}

func (t *timeline) check() verdict {
	type ownership struct {
		span
		name string
	}
	var all []ownership
	for _, s := range t.stories {
		for _, sp := range s.owned {
			all = append(all, ownership{sp, s.name})
		}
	}
	slices.SortFunc(all, func(a, b ownership) int { return cmp.Compare(a.from, b.from) })
	v := verdict{closest: t.end}
	var longest ownership // of those that have begun, the one that ends last
	for i, next := range all {
		gap := next.from - longest.to
		if i > 0 && gap <= 0 && (v.overlap == nil || -gap > v.overlap.By) {
			v.overlap = &OverlapError{[2]string{longest.name, next.name}, min(-gap, next.to-next.from)}
		}
		if i > 0 {
			v.closest = min(v.closest, gap)
		}
		if next.to >= longest.to {
			longest = next
		}
	}
	return v
}
