package history

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// A Span is the time from one moment to another.
type Span struct{ From, To time.Duration }

// Length is how long it lasts.
func (s Span) Length() time.Duration { return s.To - s.From }

// never is a moment that does not come.
const never = time.Duration(math.MaxInt64)

// Union returns the spans without overlaps and in order. Empty ones are left out.
func Union(spans []Span) []Span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	var all []Span
	for _, s := range spans {
		switch last := len(all) - 1; {
		case s.From >= s.To:
		case last >= 0 && s.From <= all[last].To:
			all[last].To = max(all[last].To, s.To)
		default:
			all = append(all, s)
		}
	}
	return all
}

// Without returns spans less others.
func Without(spans, others []Span) []Span {
	others = Union(others)
	var left []Span
	for _, s := range Union(spans) {
		first, _ := slices.BinarySearchFunc(others, s.From, func(o Span, at time.Duration) int { return cmp.Compare(o.To, at) })
		for _, o := range others[first:] {
			if o.From >= s.To {
				break
			}
			if s.From < o.From {
				left = append(left, Span{s.From, o.From})
			}
			s.From = o.To
		}
		if s.From < s.To {
			left = append(left, s)
		}
	}
	return left
}
