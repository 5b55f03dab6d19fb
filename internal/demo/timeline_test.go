package demo

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const sec = time.Second

// three is a demo as it should be: A is killed, B is stopped, C releases.
func three() *timeline {
	a := &story{name: "A", pid: 11, owned: []span{{0, 1*sec - 1}}, left: 1 * sec, killed: true, marks: []mark{{1 * sec, "kill <-9>"}}}
	b := &story{
		name: "B", pid: 12, owned: []span{{1*sec + 2*time.Millisecond, 3 * sec}, {6*sec + 3*time.Millisecond, 8 * sec}},
		stopped: []span{{2 * sec, 5 * sec}}, marks: []mark{{2 * sec, "stop"}, {5 * sec, "resume"}},
	}
	c := &story{name: "C", pid: 13, began: sec / 10, owned: []span{{4 * sec, 6 * sec}}, left: 6 * sec}
	return &timeline{
		stories: []*story{a, b, c}, samples: 1234567, end: 7 * sec,
		takeovers: []takeover{
			{of: "A", by: "B", cause: "A is killed", after: "the kill", from: 1 * sec, at: 1*sec + 1600*time.Microsecond},
			{of: "C", by: "B", cause: "C releases", after: "the release", from: 6 * sec, at: 6*sec + 90*time.Microsecond},
		},
	}
}

func TestPhases(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]bar{
		"A": {{span{0, 1*sec - 1}, owning}, {span{1*sec - 1, 1 * sec}, waiting}, {span{1 * sec, 7 * sec}, gone}},
		"B": {
			{span{0, 1*sec + 2*time.Millisecond}, waiting}, {span{1*sec + 2*time.Millisecond, 2 * sec}, owning},
			{span{2 * sec, 3 * sec}, stoppedOwning}, {span{3 * sec, 5 * sec}, stopped},
			{span{5 * sec, 6*sec + 3*time.Millisecond}, waiting}, {span{6*sec + 3*time.Millisecond, 7 * sec}, owning},
		},
		"C": {{span{0, sec / 10}, absent}, {span{sec / 10, 4 * sec}, waiting}, {span{4 * sec, 6 * sec}, owning}, {span{6 * sec, 7 * sec}, gone}},
	} {
		tl := three()
		i := slices.IndexFunc(tl.stories, func(s *story) bool { return s.name == name })
		if got := tl.stories[i].bars(tl.end); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tl := three()
	if v := tl.check(); v.overlap != nil || v.closest != 2*time.Millisecond+1 {
		t.Errorf("%+v", v)
	}
	// Each of these is a second owner, and must be detected.
	for what, c := range map[string]struct {
		row   int
		owned span
		by    time.Duration
		names [2]string
	}{
		"a little":            {2, span{3*sec - 1, 4 * sec}, 1, [2]string{"B", "C"}},
		"at the same instant": {2, span{3 * sec, 4 * sec}, 0, [2]string{"B", "C"}},
		"within another":      {0, span{4*sec + sec/2, 5 * sec}, sec / 2, [2]string{"C", "A"}},
		"around another":      {0, span{3*sec + sec/2, 6 * sec}, 2 * sec, [2]string{"A", "C"}},
		"behind a short one":  {1, span{5 * sec, 5*sec + sec/2}, sec / 2, [2]string{"C", "B"}},
		"itself":              {2, span{5 * sec, 6 * sec}, sec, [2]string{"C", "C"}},
	} {
		tl := three()
		tl.stories[c.row].owned = append(tl.stories[c.row].owned, c.owned)
		v := tl.check()
		if v.overlap == nil || v.overlap.By != c.by || v.overlap.Names != c.names {
			t.Errorf("%s: %+v", what, v.overlap)
			continue
		}
		var b strings.Builder
		if err := tl.text(&b); err != nil || !strings.Contains(b.String(), "TWO OWNERS AT ONCE: ") || strings.Contains(b.String(), "No two") {
			t.Errorf("%s: %v, %s", what, err, b.String())
		}
		if svg := string(tl.svg()); !strings.Contains(svg, "TWO OWNERS AT ONCE: ") || strings.Contains(svg, "No two") {
			t.Errorf("%s: %s", what, svg)
		}
	}
}

func TestWhatSamplesProve(t *testing.T) {
	t.Parallel()
	p := &player{}
	learn := func(r report) { p.learn(&r) }
	sample := func(asked, answered time.Duration, owns bool) {
		learn(report{Event: sampled, At: asked, Answered: answered, Owns: owns})
	}
	learn(report{Event: standsBy})
	sample(1, 2, false)
	sample(3, 5, true)
	sample(7, 90, true) // it may have been stopped behind the answer
	sample(91, 92, false)
	learn(report{Event: lost, Fence: 40})
	learn(report{Event: standsBy})
	sample(100, 110, true) // once: there is no later one
	if want := []span{{5, 40}, {110, 110}}; !slices.Equal(p.owned, want) {
		t.Errorf("got %v, want %v", p.owned, want)
	}
}

func TestFirstSampleAfterTheResumption(t *testing.T) {
	t.Parallel()
	p := &player{resumed: 50}
	p.learn(&report{Event: sampled, At: 49, Answered: 55, Owns: true}) // on the way when it was stopped
	if p.first != nil {
		t.Error("asked before")
	}
	p.learn(&report{Event: sampled, At: 50})
	p.learn(&report{Event: sampled, At: 60, Owns: true})
	if p.first == nil || p.first.At != 50 {
		t.Errorf("%+v", p.first)
	}
}

func TestShift(t *testing.T) {
	t.Parallel()
	s := &story{began: 5, left: 9, owned: []span{{6, 7}}, stopped: []span{{7, 8}}, marks: []mark{{6, ""}}}
	s.shift(-5)
	if s.began != 0 || s.left != 4 || s.owned[0] != (span{1, 2}) || s.stopped[0] != (span{2, 3}) || s.marks[0].at != 1 {
		t.Errorf("%+v", s)
	}
	s = &story{began: 5}
	s.shift(-5)
	if s.left != 0 {
		t.Error("one that stayed has left")
	}
}
