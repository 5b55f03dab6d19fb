package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// report prints what was sent, how long faults have kept requests waiting, and the
// verdict.
func report(out io.Writer, h *history, v *verdict) error {
	var w strings.Builder
	printOutcomes(&w, h)
	printStalls(&w, h)
	fmt.Fprintf(&w, "outcomes unknown:")
	for _, name := range slices.Sorted(maps.Keys(v.unknown)) {
		fmt.Fprintf(&w, " %d %s;", v.unknown[name], name)
	}
	fmt.Fprintf(&w, "\nsafe or keyed requests that began more than once: %d\n", v.repeated)
	fmt.Fprintf(&w, "handlers of a process that was stopped, begun after those of a later owner: %d\n", v.late)
	if v.excused > 0 {
		fmt.Fprintf(&w, "not answered while the whole machine stood still: %d\n", v.excused)
	}
	if len(v.violations) == 0 {
		fmt.Fprintln(&w, "ok")
	} else {
		fmt.Fprintf(&w, "VIOLATED %d times\n", len(v.violations))
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func printOutcomes(w io.Writer, h *history) {
	kindCount, wayCount := map[kind]map[outcome]int{}, map[way]map[outcome]int{}
	for _, r := range h.requests {
		count(kindCount, r.Kind, r.Outcome)
		count(wayCount, r.Way, r.Outcome)
	}
	fmt.Fprintf(w, "%-26s", "requests")
	for _, o := range outcomes {
		fmt.Fprintf(w, " %9s", o)
	}
	fmt.Fprintln(w)
	for _, k := range kinds {
		printCounts(w, string(k), kindCount[k])
	}
	for _, x := range ways {
		printCounts(w, "by "+string(x), wayCount[x])
	}
}

func count[K comparable](all map[K]map[outcome]int, key K, o outcome) {
	if all[key] == nil {
		all[key] = map[outcome]int{}
	}
	all[key][o]++
}

func printCounts(w io.Writer, name string, counts map[outcome]int) {
	fmt.Fprintf(w, "  %-24s", name)
	for _, o := range outcomes {
		fmt.Fprintf(w, " %9d", counts[o])
	}
	fmt.Fprintln(w)
}

// A disruption is what the faults of a name have done to the clients.
type disruption struct {
	number  int
	stalls  []time.Duration // of the requests that met one
	unknown int
	gaps    []time.Duration // at each fault, the longest time without an answer
}

func printStalls(w io.Writer, h *history) {
	all := disruptions(h)
	fmt.Fprintf(w, "%-28s %7s %8s %10s %10s %10s %8s   %s\n", "fault", "number", "requests", "median", "p99", "worst", "unknown", "no answer for: median, p99, worst")
	for _, f := range faults {
		d := all[f.name]
		if d == nil {
			continue
		}
		slices.Sort(d.stalls)
		slices.Sort(d.gaps)
		fmt.Fprintf(w, "  %-26s %7d %8d %10v %10v %10v %8d   %v, %v, %v\n", f.name, d.number, len(d.stalls),
			percentile(d.stalls, 50), percentile(d.stalls, 99), percentile(d.stalls, 100), d.unknown,
			percentile(d.gaps, 50), percentile(d.gaps, 99), percentile(d.gaps, 100))
	}
}

// percentile is of a sorted list, 0 of none.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return round(all[(len(all)-1)*p/100])
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// disruptions are by the fault's name.
func disruptions(h *history) map[string]*disruption {
	byLease := map[string]*leaseRequests{}
	for _, r := range h.requests {
		l := byLease[r.Lease]
		if l == nil {
			l = &leaseRequests{}
			byLease[r.Lease] = l
		}
		l.all = append(l.all, r)
	}
	for _, l := range byLease {
		l.sort()
	}
	frozen := h.freezes()
	all := map[string]*disruption{}
	for _, x := range h.faults {
		if meetsAny(frozen, x.From, x.To+slack) {
			continue // what the machine's own pause has cost is no measurement
		}
		d := all[x.Fault]
		if d == nil {
			d = &disruption{}
			all[x.Fault] = d
		}
		d.number++
		d.add(x, byLease[x.Lease])
	}
	return all
}

// leaseRequests are the requests to a lease, by their ends; answers are those that were
// answered.
type leaseRequests struct {
	all, answers []request
	longest      time.Duration // that one has taken
}

func (l *leaseRequests) sort() {
	slices.SortFunc(l.all, func(a, b request) int { return cmp.Compare(a.End, b.End) })
	for _, r := range l.all {
		l.longest = max(l.longest, r.stall())
		if r.Outcome == answered {
			l.answers = append(l.answers, r)
		}
	}
}

// endedSince are those that have not ended before.
func endedSince(requests []request, at time.Duration) []request {
	i, _ := slices.BinarySearchFunc(requests, at, func(r request, at time.Duration) int { return cmp.Compare(r.End, at) })
	return requests[i:]
}

// add adds what a fault has done to the requests to its lease.
func (d *disruption) add(x injected, l *leaseRequests) {
	if l == nil {
		return
	}
	met := change(x, l.answers)
	for _, r := range endedSince(l.all, met.from) {
		if r.End > met.to+l.longest {
			break // it, and all that follow, began after the span
		}
		// A Node's port does not answer while its process is stopped: that is no stall of the lease.
		if r.Kind == cancel || !r.Way.promises() || !met.meets(r.Start, r.End) {
			continue
		}
		if d.stalls = append(d.stalls, r.stall()); r.Outcome == unknown {
			d.unknown++
		}
	}
	d.gaps = append(d.gaps, longestGap(met, l.answers))
}

// longestGap is the longest time without an answer that meets the span.
func longestGap(met span, answers []request) (gap time.Duration) {
	for i := len(answers) - len(endedSince(answers, met.from)); i < len(answers); i++ {
		if i == 0 {
			continue
		}
		if answers[i-1].End > met.to {
			break
		}
		gap = max(gap, answers[i].End-answers[i-1].End)
	}
	return gap
}

// change is from the last answer of the owner that the fault was done to, to the first of
// the next one. Where no other has come, it is until a request is answered that was sent
// after the fault.
func change(x injected, answers []request) span {
	var epoch uint64
	last := x.From
	for _, r := range answers {
		switch {
		case r.End < x.From:
			epoch = max(epoch, r.Epoch)
		case r.Epoch <= epoch:
			last = r.End
		case r.End <= x.To+slack:
			return span{last, r.End}
		}
	}
	for _, r := range answers {
		if r.Start >= x.From {
			return span{x.From, r.End}
		}
	}
	return span{x.From, x.To}
}
