package history

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// spell is an ownership that expired: valid between two moments, in milliseconds,
// as seen within a millisecond on each side, with a margin of 10 ms.
func spell(epoch uint64, from, to int) Tenure {
	at := func(n int) time.Duration { return time.Duration(n) * ms }
	return Tenure{
		Lease: "x", Instance: fmt.Sprint("instance ", epoch), Epoch: epoch, Margin: 10 * ms,
		Sought: at(from - 1), Owned: at(from), Valid: at(to), Over: at(to + 1), Expiry: at(to + 10), End: Expired,
	}
}

// freed is one that was freed at a moment.
func freed(t Tenure, at int, end End) Tenure {
	t.Freed, t.End = time.Duration(at)*ms, end
	if end != Expired {
		t.Over = max(t.Over, t.Freed)
	}
	return t
}

// unseen is one that was asked but once, and stopped at that, so that its yes may
// lie anywhere between two moments.
func unseen(epoch uint64, from, to int) Tenure {
	t := spell(epoch, from, to)
	t.Owned, t.Valid = t.Valid, t.Owned
	return t
}

func standing(from, to int) Tenure {
	return Tenure{Lease: "x", Joined: time.Duration(from) * ms, Sought: time.Duration(from) * ms, Over: time.Duration(to) * ms}
}

// attempt is one that has won the lease, and that was the only answer it got.
func attempt(t Tenure, sought, owned, over int) Tenure {
	t.Instance, t.Epoch = "attempt", 1
	t.Sought, t.Owned, t.Over = time.Duration(sought)*ms, time.Duration(owned)*ms, time.Duration(over)*ms
	t.Valid = t.Owned
	return t
}

func on(lease string, t Tenure) Tenure {
	t.Lease = lease
	return t
}

const patience = 100 * ms

// Every rule has histories that break it and no other, and some that come as close
// to it as they may.
var cases = []struct {
	name    string
	tenures []Tenure
	breaks  Rule // "" for none
}{
	{"nothing", nil, ""},
	{"one", []Tenure{spell(1, 10, 20)}, ""},
	{"by expiry, after just the margin", []Tenure{spell(1, 10, 20), spell(2, 30, 40)}, ""},
	{"by release, at once", []Tenure{freed(spell(1, 10, 20), 20, Released), spell(2, 20, 40)}, ""},
	{"by death, at once", []Tenure{freed(spell(1, 10, 20), 20, Killed), spell(2, 20, 40)}, ""},
	{"lost, and released within the margin", []Tenure{freed(spell(1, 10, 20), 24, Expired), spell(2, 24, 40)}, ""},
	{"two leases at once", []Tenure{spell(1, 10, 40), on("y", spell(1, 20, 30))}, ""},
	{"given in any order", []Tenure{spell(3, 70, 80), spell(1, 10, 20), spell(2, 40, 50)}, ""},
	{"still open", []Tenure{spell(1, 10, 20), {Lease: "x", Instance: "b", Epoch: 2, Sought: 30 * ms, Owned: 31 * ms, Valid: 50 * ms}}, ""},
	{"elected, and never proven valid", []Tenure{spell(1, 10, 50), {Lease: "x", Instance: "b", Epoch: 2, Sought: 20 * ms, Over: 30 * ms}}, ""},
	{"a yes that may have come before", []Tenure{spell(2, 30, 50), unseen(1, 5, 40)}, ""},
	{"a yes that may have come after", []Tenure{freed(spell(1, 10, 30), 30, Released), unseen(2, 20, 60)}, ""},

	{"one within another", []Tenure{spell(1, 10, 50), spell(2, 20, 30)}, Overlap},
	{"one after the other's beginning", []Tenure{spell(1, 10, 50), spell(2, 40, 60)}, Overlap},
	{"overlap with one before the last", []Tenure{spell(1, 10, 90), freed(spell(2, 20, 30), 30, Released), spell(3, 85, 99)}, Overlap},
	{"a yes that came after, as the epoch says, and not before", []Tenure{spell(2, 30, 50), unseen(3, 5, 40)}, Overlap},
	{"a single yes within another's time", []Tenure{spell(1, 10, 50), unseen(2, 20, 30)}, Overlap},
	{"valid after the release", []Tenure{freed(spell(1, 10, 40), 20, Released), spell(2, 30, 60)}, Overlap},
	{"killed too late", []Tenure{freed(spell(1, 10, 40), 40, Killed), spell(2, 39, 60)}, Overlap},

	{"at the very same reading", []Tenure{spell(1, 10, 20), spell(2, 20, 40)}, Undercut},
	{"half the margin", []Tenure{spell(1, 10, 20), spell(2, 25, 40)}, Undercut},
	{"before the release that follows a loss", []Tenure{freed(spell(1, 10, 20), 28, Expired), spell(2, 25, 40)}, Undercut},
	{"within the margin of one before the last", []Tenure{spell(1, 10, 20), freed(unseen(2, 20, 24), 24, Killed), freed(spell(3, 29, 40), 40, Released)}, Undercut},

	{"an epoch that falls", []Tenure{spell(2, 10, 20), spell(1, 40, 50)}, Order},
	{"an epoch that stays", []Tenure{spell(1, 10, 20), spell(1, 40, 50)}, Order},
	{"an epoch that falls later", []Tenure{spell(5, 10, 20), spell(7, 40, 50), spell(6, 70, 80)}, Order},

	{"valid again", []Tenure{func() Tenure { t := spell(1, 10, 30); t.Over = 20 * ms; return t }()}, Revival},

	{"no owner for too long", []Tenure{spell(1, 10, 20), standing(15, 200)}, Vacancy},
	{"no owner after a loss, until its process ends", []Tenure{freed(spell(1, 10, 20), 190, Expired), standing(15, 200)}, Vacancy},
	{"no owner at the beginning", []Tenure{standing(10, 200)}, Vacancy},
	{"no owner for as long as may be", []Tenure{spell(1, 10, 20), standing(15, 130)}, ""},
	{"an attempt that takes too long", []Tenure{attempt(standing(10, 0), 11, 200, 210), spell(2, 230, 240)}, Vacancy},
	{"an attempt that takes too long, and whose end is not known", []Tenure{attempt(standing(10, 0), 11, 200, 0)}, Vacancy},
	{"wanted, and still held", []Tenure{attempt(Tenure{Lease: "x"}, 10, 11, 0), standing(20, 300)}, ""},
	{"not wanted", []Tenure{spell(1, 10, 20), spell(2, 500, 510)}, ""},
	{"wanted, and held by one that was never proven valid", []Tenure{{Lease: "x", Epoch: 1, Sought: 10 * ms, Over: 300 * ms}, standing(10, 300)}, ""},
}

func TestRules(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := &History{Tenures: c.tenures}
			v, err := h.Check(patience)
			if err != nil {
				t.Fatal(err)
			}
			var broken []Rule
			for _, x := range v.Violations {
				broken = append(broken, x.Rule)
			}
			broken = slices.Compact(broken)
			if c.breaks == "" && broken != nil || c.breaks != "" && !slices.Equal(broken, []Rule{c.breaks}) {
				t.Errorf("breaks %q, want %q: %v", broken, c.breaks, v.Violations)
			}
		})
	}
}

func TestDisturbedTimesAreNoVacancy(t *testing.T) {
	h := &History{
		Tenures:   []Tenure{spell(1, 10, 20), standing(15, 200)},
		Disturbed: map[string][]Span{"x": {{100 * ms, 110 * ms}}, "y": {{10 * ms, 200 * ms}}},
	}
	v, err := h.Check(patience)
	if want := (Span{110 * ms, 200 * ms}); err != nil || v.Violations != nil || v.Vacancy != want {
		t.Errorf("%+v, %v; want a vacancy of %v", v, err, want)
	}
}

func TestCounts(t *testing.T) {
	h := &History{Tenures: []Tenure{
		spell(1, 10, 20), spell(2, 35, 40), freed(spell(3, 90, 99), 99, Released), spell(4, 99, 120),
		on("y", freed(spell(1, 10, 20), 50, Expired)), on("y", spell(2, 34, 60)),
		{Lease: "x", Instance: "e", Epoch: 5, Sought: 130 * ms, Over: 131 * ms},
		standing(140, 150), standing(160, 165),
	}}
	v, err := h.Check(patience)
	if err != nil || v.Owned != 6 || v.Unproven != 1 || v.Closest != 4*ms || v.Vacancy.Length() != 10*ms {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	for _, bad := range []Tenure{
		{Owned: 1, Valid: 1, Instance: "a"},
		{Owned: 1, Valid: 1, Epoch: 1},
		{Sought: 2, Owned: 1, Valid: 2, Instance: "a", Epoch: 1},
		{Sought: 2, Owned: 2, Valid: 1, Instance: "a", Epoch: 1},
	} {
		if _, err := (&History{Tenures: []Tenure{bad}}).Check(patience); err == nil {
			t.Errorf("accepted: %+v", bad)
		}
	}
}

func TestRead(t *testing.T) {
	const line = `{"lease":"x","sought":1,"epoch":7}` + "   \n"
	for _, c := range []struct {
		text string
		n    int
		good bool
	}{
		{"", 0, true},
		{line + line, 2, true},
		{line + `{"lease":"x","sou`, 1, true},
		{line + "\x00\x00\n" + line, 0, false},
	} {
		all, err := Read(strings.NewReader(c.text))
		if len(all) != c.n || (err == nil) != c.good {
			t.Errorf("%q: %d, %v", c.text, len(all), err)
		}
		for _, got := range all {
			if got.Epoch != 7 || got.Lease != "x" || got.Sought != 1 {
				t.Errorf("%+v", got)
			}
		}
	}
}

func TestSpans(t *testing.T) {
	s := func(n ...time.Duration) (all []Span) {
		for i := 0; i < len(n); i += 2 {
			all = append(all, Span{n[i], n[i+1]})
		}
		return all
	}
	if got, want := Union(s(5, 9, 1, 3, 3, 4, 6, 7, 8, 12, 20, 20)), s(1, 4, 5, 12); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, c := range []struct{ from, what, want []Span }{
		{s(1, 9), nil, s(1, 9)},
		{s(1, 9), s(6, 7, 3, 4, 6, 8), s(1, 3, 4, 6, 8, 9)},
		{s(1, 9), s(3, 4, 6, 7), s(1, 3, 4, 6, 7, 9)},
		{s(1, 9), s(0, 2, 8, 11), s(2, 8)},
		{s(1, 9), s(0, 20), nil},
		{s(1, 9, 20, 30), s(5, 25), s(1, 5, 25, 30)},
		{s(1, 9), s(9, 10, 0, 1), s(1, 9)},
	} {
		if got := Without(c.from, c.what); !slices.Equal(got, c.want) {
			t.Errorf("%v without %v: %v, want %v", c.from, c.what, got, c.want)
		}
	}
}
