//go:build unix

package main

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestBelieves(t *testing.T) {
	got := believes([]time.Duration{1 * ms, 2 * ms, 102 * ms, 203 * ms, 204 * ms})
	if want := []interval{{1 * ms, 102 * ms}, {203 * ms, 204 * ms}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if believes(nil) != nil {
		t.Error("a belief without a sign")
	}
}

func TestTogether(t *testing.T) {
	for _, c := range []struct {
		a, b []interval
		want time.Duration
	}{
		{nil, []interval{{0, 9}}, 0},
		{[]interval{{0, 5}}, []interval{{5, 9}}, 0},
		{[]interval{{0, 5}}, []interval{{3, 9}}, 2},
		{[]interval{{0, 9}}, []interval{{1, 2}, {4, 7}}, 4},
		{[]interval{{1, 3}, {5, 8}}, []interval{{2, 6}}, 2},
	} {
		if got := together(c.a, c.b); got != c.want || together(c.b, c.a) != c.want {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestFirstAfter(t *testing.T) {
	signs := []time.Duration{2, 4}
	for at, want := range map[time.Duration]time.Duration{0: 2, 2: 2, 3: 4, 4: 4} {
		if got, ok := firstAfter(signs, at); !ok || got != want {
			t.Errorf("after %d: %d, %v", at, got, ok)
		}
	}
	if _, ok := firstAfter(signs, 5); ok {
		t.Error("a sign after the last")
	}
}
