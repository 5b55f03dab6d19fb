package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/ownerlease/owner/internal/history"
	"github.com/ownerlease/owner/lab/internal/linear"
)

// A report is what has come of a run. Its times count from the beginning.
type report struct {
	history.History
	verdict history.Verdict
	order   error // of the orders' checker
	deeds   map[string][]injectedFault
	faults  []fault
	length  time.Duration

	contained map[string]bool // the workers in their own pid namespaces
}

// report reads what the workers have written, and judges it.
func (d *director) report() (*report, error) {
	r := &report{deeds: map[string][]injectedFault{}, faults: d.chosen, length: d.length, contained: map[string]bool{}}
	r.Disturbed = map[string][]history.Span{}
	for _, p := range d.processes {
		tenures, err := p.tenures()
		if err != nil {
			return nil, err
		}
		r.Tenures = append(r.Tenures, tenures...)
		if p.contained {
			r.contained[p.name] = true
		}
	}
	for i := range r.Tenures {
		t := &r.Tenures[i]
		for _, at := range []*time.Duration{&t.Joined, &t.Sought, &t.Owned, &t.Valid, &t.Over, &t.Freed, &t.Expiry} {
			if *at > 0 {
				*at -= d.began
			}
		}
	}
	for _, l := range d.lanes {
		for _, x := range l.injected {
			x.From, x.To = x.From-d.began, x.To-d.began
			r.deeds[l.name] = append(r.deeds[l.name], x)
			if x.kind == ofStop || x.kind == ofDisk {
				r.Disturbed[l.name] = append(r.Disturbed[l.name], x.Span)
			}
		}
	}
	if err := r.writeDeeds(filepath.Join(d.dir, "faults"), d.began); err != nil {
		return nil, err
	}
	var err error
	if r.verdict, err = r.Check(d.patience); err == nil {
		r.order = linear.Check(&r.History, d.decide)
	}
	return r, err
}

// writeDeeds puts what was done beside what the workers have written.
func (r *report) writeDeeds(path string, began time.Duration) error {
	var w strings.Builder
	fmt.Fprintf(&w, "The times count from the reading %d of the workers' clock.\n", began)
	for _, lease := range slices.Sorted(maps.Keys(r.deeds)) {
		for _, x := range r.deeds[lease] {
			fmt.Fprintln(&w, lease, x)
		}
	}
	return os.WriteFile(path, []byte(w.String()), 0o600)
}

func (x injectedFault) String() string {
	s := fmt.Sprintf("%v  %s %v until %v", x.From, x.name, x.whom, x.To)
	if x.err != nil {
		s += ": left out"
	}
	return s
}

// tenures are what a worker has written. Of one that was killed, the last ends with
// its process: between the reading of the clock before the kill and that after its
// end. The same holds for a tenure that was lost and not released.
func (p *process) tenures() ([]history.Tenure, error) {
	if !p.over() {
		return nil, fmt.Errorf("%s: its worker could not be ended", p.journal)
	}
	f, err := os.Open(p.journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // killed before it could begin
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := history.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.journal, err)
	}
	parted := time.Duration(p.parted.Load())
	for i := range all {
		t := &all[i]
		switch {
		case t.Over > 0:
		case t.Epoch == 0:
			t.Over = parted
		default:
			t.Over, t.End = p.ended, cmp.Or(t.End, history.Killed)
		}
		t.Freed = cmp.Or(t.Freed, parted)
	}
	return all, nil
}

// takeovers are their durations, by what came before: only those by a standby that waited
// when the lease became free, and without a disturbance.
func (r *report) takeovers() map[string][]time.Duration {
	took := map[string][]time.Duration{}
	for lease, owned := range r.owned() {
		quiet := history.Without([]history.Span{{To: r.length + time.Hour}}, r.Disturbed[lease])
		for i, t := range owned[1:] {
			after, from := ended(owned[i])
			if r.across(owned[i], t) {
				after += ", other namespace"
			}
			if t.Joined > 0 && t.Joined < from && from < t.Owned && within(quiet, history.Span{From: from, To: t.Owned}) {
				took[after] = append(took[after], t.Owned-from)
			}
		}
	}
	return took
}

// across reports whether two tenures are of workers in different pid namespaces.
func (r *report) across(a, b *history.Tenure) bool {
	return a.By != b.By && (r.contained[a.By] || r.contained[b.By])
}

// acrossNamespaces counts all takeovers, and those from one pid namespace to another.
func (r *report) acrossNamespaces() (across, all int) {
	for _, owned := range r.owned() {
		for i, t := range owned[1:] {
			all++
			if r.across(owned[i], t) {
				across++
			}
		}
	}
	return across, all
}

// within reports whether s lies in one of the spans, which are in order.
func within(spans []history.Span, s history.Span) bool {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].To >= s.To })
	return i < len(spans) && spans[i].From <= s.From
}

// ended returns what has ended a tenure, and since when another could own.
func ended(t *history.Tenure) (string, time.Duration) {
	from := min(t.Freed, t.Expiry)
	switch t.End {
	case history.Killed:
		return "kill", t.Freed
	case history.Released:
		return "release", t.Freed
	case history.Expired:
		return "expiry", from
	}
	return "loss of the record", from
}

// owned are the tenures that were proven valid, for each lease in the order in which
// that was seen.
func (r *report) owned() map[string][]*history.Tenure {
	owned := map[string][]*history.Tenure{}
	for i := range r.Tenures {
		if t := &r.Tenures[i]; t.Owned > 0 {
			owned[t.Lease] = append(owned[t.Lease], t)
		}
	}
	for _, all := range owned {
		slices.SortFunc(all, func(a, b *history.Tenure) int { return cmp.Compare(a.Owned, b.Owned) })
	}
	return owned
}

// count returns how often a fault was done, and how often it had to be left out.
func (r *report) count(name string) (done, left int) {
	for _, all := range r.deeds {
		for _, x := range all {
			switch {
			case x.name != name:
			case x.err != nil:
				left++
			default:
				done++
			}
		}
	}
	return done, left
}

// print prints it. The error names the violations.
func (r *report) print(out io.Writer) error {
	var w strings.Builder
	for _, f := range r.faults {
		n, left := r.count(f.name)
		fmt.Fprintf(&w, " %s %d", f.name, n)
		if left > 0 {
			fmt.Fprintf(&w, " (%d left out)", left)
		}
	}
	fmt.Fprintf(&w, "\n%d owners in %v, and %d that had lost again before they could ask\n", r.verdict.Owned, r.length.Round(100*time.Millisecond), r.verdict.Unproven)
	owned := r.owned()
	for _, lease := range slices.Sorted(maps.Keys(owned)) {
		all := owned[lease]
		fmt.Fprintf(&w, "%s: %d owners, epochs from %d to %d\n", lease, len(all), all[0].Epoch, all[len(all)-1].Epoch)
	}
	across, all := r.acrossNamespaces()
	fmt.Fprintf(&w, "%d of %d takeovers from one pid namespace to another\n", across, all)
	fmt.Fprintf(&w, "%-39s %7s %10s %10s %10s\n", "takeover by a standby", "number", "median", "p99", "worst")
	took := r.takeovers()
	for _, after := range slices.Sorted(maps.Keys(took)) {
		all := slices.Sorted(slices.Values(took[after]))
		at := func(p int) time.Duration { return all[(len(all)-1)*p/100].Round(10 * time.Microsecond) }
		fmt.Fprintf(&w, "  after %-31s %9d %10v %10v %10v\n", after, len(all), at(50), at(99), at(100))
	}
	fmt.Fprintf(&w, "longest without an owner, though free and wanted: %v\n", r.verdict.Vacancy.Length().Round(10*time.Microsecond))
	if r.verdict.Closest < time.Hour {
		fmt.Fprintf(&w, "closest to a safety margin's end: %v after it\n", r.verdict.Closest.Round(time.Microsecond))
	}
	fmt.Fprintf(&w, "intervals: %s\norder: %s\n", verdict(len(r.verdict.Violations) == 0), verdict(r.order == nil))
	if _, err := io.WriteString(out, "faults:"+w.String()); err != nil {
		return err
	}
	return r.violations()
}

func verdict(good bool) string {
	if good {
		return "ok"
	}
	return "VIOLATED"
}

// most is how many violations are printed in full: a broken library has thousands.
const most = 3

// violations prints them, and the events around them.
func (r *report) violations() error {
	var errs []error
	for i, v := range r.verdict.Violations {
		if i == most {
			errs = append(errs, fmt.Errorf("and %d more", len(r.verdict.Violations)-most))
			break
		}
		errs = append(errs, errors.New(v.String()+r.around(v)))
	}
	return errors.Join(append(errs, r.order)...)
}

// around prints the faults and the owners shortly before and after a violation.
func (r *report) around(v history.Violation) string {
	near := func(s history.Span) bool { return s.To > v.When.From-longestTTL && s.From < v.When.To+longestTTL/4 }
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	for _, x := range r.deeds[v.Lease] {
		if near(x.Span) && x.err == nil {
			lines = append(lines, line{x.From, x.String()})
		}
	}
	for _, t := range r.owned()[v.Lease] {
		if near(history.Span{From: t.Owned, To: t.Over}) {
			lines = append(lines, line{t.Owned, fmt.Sprintf("%v  %v", t.Owned, t)})
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	s := "\n\taround it:"
	for _, l := range lines {
		s += "\n\t" + l.text
	}
	return s
}
