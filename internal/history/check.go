package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A History is what is known about some leases.
type History struct {
	Tenures []Tenure
	// Disturbed says, for each lease, when no instance could be expected to acquire it
	// even if it was free and had a standby: a disk hung, or a process was stopped.
	Disturbed map[string][]Span
}

// A Rule is what must hold.
type Rule string

// The rules. See Check.
const (
	Overlap  Rule = "two valid owners at once"
	Undercut Rule = "safety margin undercut"
	Order    Rule = "an epoch that does not grow"
	Revival  Rule = "valid again after its end"
	Vacancy  Rule = "free, wanted, and not owned"
)

// A Violation is a broken rule, and the tenure that has broken it: the second of two of a
// lease, or the only one. A vacancy has no tenure.
type Violation struct {
	Rule          Rule
	Lease         string
	First, Second *Tenure
	When          Span
}

func (v Violation) String() string {
	s := fmt.Sprintf("%s: %s, from %v to %v (%v)", v.Lease, v.Rule, v.When.From, v.When.To, v.When.Length())
	for _, t := range []*Tenure{v.First, v.Second} {
		if t != nil {
			s += "\n\t" + t.String()
		}
	}
	return s
}

// A Verdict is what Check has found.
type Verdict struct {
	Violations []Violation
	Owned      int           // tenures that were proven valid
	Unproven   int           // others that were elected, and ended before IsOwner could be asked
	Closest    time.Duration // the least time from a margin's end to the next owner, where a margin was due
	Vacancy    Span          // the longest time in which a lease was free, wanted, and not owned
}

// Check judges the intervals, each lease for itself:
//
//   - Overlap: no two instances are valid at the same instant. They were if neither
//     can have ended before the other began.
//   - Undercut: from the end of one that was neither released nor is dead, its
//     SafetyMargin passes before another is valid.
//   - Order: the owner that is valid later has the higher epoch.
//   - Revival: an owner that is no longer valid stays so.
//   - Vacancy: a lease that is free, and has an undisturbed standby,
//     is owned within the caller's patience.
//
// An error says that the history is inconsistent.
func (h *History) Check(patience time.Duration) (Verdict, error) {
	v := Verdict{Closest: never}
	for _, lease := range h.Leases() {
		all, owned := h.of(lease), h.Owned(lease)
		v.Owned += len(owned)
		for _, t := range all {
			if err := t.check(); err != nil {
				return v, err
			}
			if t.Owned == 0 && t.Epoch > 0 {
				v.Unproven++
			}
		}
		v.succession(owned)
		v.order(owned)
		v.revivals(owned)
		v.vacancies(lease, all, h.Disturbed[lease], patience)
	}
	return v, nil
}

// Leases are the leases that there are tenures of.
func (h *History) Leases() []string {
	var names []string
	for i := range h.Tenures {
		names = append(names, h.Tenures[i].Lease)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (h *History) of(lease string) (all []*Tenure) {
	for i := range h.Tenures {
		if t := &h.Tenures[i]; t.Lease == lease {
			all = append(all, t)
		}
	}
	return all
}

// Owned are a lease's tenures that were proven valid, in the order in which that was
// seen first.
func (h *History) Owned(lease string) []*Tenure {
	owned := slices.DeleteFunc(h.of(lease), func(t *Tenure) bool { return t.Owned == 0 })
	slices.SortFunc(owned, func(a, b *Tenure) int {
		return cmp.Or(cmp.Compare(a.Owned, b.Owned), cmp.Compare(a.Epoch, b.Epoch))
	})
	return owned
}

// succession compares each tenure with those before it that still exclude it. The yes of
// a short one may lie anywhere between two readings far apart, in a process that was
// stopped in between: where it may have come first, the epoch says whether it did.
func (v *Verdict) succession(owned []*Tenure) {
	var barring []*Tenure
	for i, next := range owned {
		barring = slices.DeleteFunc(barring, func(t *Tenure) bool { return t.barred() <= next.Owned })
		for _, t := range barring {
			switch {
			case next.Valid <= t.Owned && next.Epoch < t.Epoch:
			case t.Valid > next.Owned:
				v.add(Overlap, t, next, Span{next.Owned, min(t.Valid, max(next.Valid, next.Owned))})
			default:
				v.add(Undercut, t, next, Span{next.Owned, t.barred()})
			}
		}
		barring = append(barring, next)
		if i == 0 {
			continue
		}
		if last := owned[i-1]; last.barred() == last.Valid+last.Margin {
			v.Closest = min(v.Closest, next.Owned-last.barred())
		}
	}
}

// order compares each with the first of those before it that have a higher epoch,
// which is the one that it comes after most surely.
func (v *Verdict) order(owned []*Tenure) {
	var highest []*Tenure // each has a higher epoch than all before it
	with := map[uint64]*Tenure{}
	for _, next := range owned {
		i, _ := slices.BinarySearchFunc(highest, next.Epoch, func(t *Tenure, e uint64) int { return cmp.Compare(t.Epoch, e) })
		switch same := with[next.Epoch]; {
		case same != nil:
			v.add(Order, same, next, Span{same.Owned, next.Owned})
		case i == len(highest):
			highest = append(highest, next)
		case next.Valid > highest[i].Owned:
			v.add(Order, highest[i], next, Span{highest[i].Owned, next.Owned})
		}
		with[next.Epoch] = next
	}
}

func (v *Verdict) revivals(owned []*Tenure) {
	for _, t := range owned {
		if t.Over > 0 && t.Valid > t.Over {
			v.add(Revival, nil, t, Span{t.Over, t.Valid})
		}
	}
}

func (v *Verdict) vacancies(lease string, all []*Tenure, disturbed []Span, patience time.Duration) {
	var stood []Span
	taken := slices.Clone(disturbed)
	for _, t := range all {
		stood = append(stood, t.Stood())
		if t.Epoch > 0 {
			taken = append(taken, t.Held())
		}
	}
	for _, s := range Without(stood, taken) {
		if s.Length() > v.Vacancy.Length() {
			v.Vacancy = s
		}
		if s.Length() > patience {
			v.Violations = append(v.Violations, Violation{Rule: Vacancy, Lease: lease, When: s})
		}
	}
}

func (v *Verdict) add(r Rule, first, second *Tenure, when Span) {
	v.Violations = append(v.Violations, Violation{r, second.Lease, first, second, when})
}
