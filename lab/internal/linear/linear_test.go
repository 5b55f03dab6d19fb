package linear

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/history"
)

const ms = time.Millisecond

// spell is an ownership that expired: valid between two moments, in milliseconds,
// as seen within a millisecond on each side.
func spell(epoch uint64, from, to int) history.Tenure {
	at := func(n int) time.Duration { return time.Duration(n) * ms }
	return history.Tenure{
		Lease: "x", Instance: fmt.Sprint("instance ", epoch), Epoch: epoch,
		Sought: at(from - 1), Owned: at(from), Valid: at(to), Over: at(to + 1), Expiry: at(to + 10), End: history.Expired,
	}
}

// released is one that was given back at its end.
func released(epoch uint64, from, to int) history.Tenure {
	t := spell(epoch, from, to)
	t.Freed, t.End = t.Valid, history.Released
	return t
}

// unseen is one that was asked but once, and stopped at that, so that its yes may
// lie anywhere between two moments.
func unseen(epoch uint64, from, to int) history.Tenure {
	t := spell(epoch, from, to)
	t.Owned, t.Valid = t.Valid, t.Owned
	return t
}

// The two ways to judge must come to the same, whatever the history.
func TestTheTwoAgree(t *testing.T) {
	verdicts := map[bool]int{}
	for seed := range uint64(20_000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		h := &history.History{Tenures: anyTenures(rng)}
		v, err := h.Check(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		ordered := !slices.ContainsFunc(v.Violations, func(x history.Violation) bool { return x.Rule == history.Overlap || x.Rule == history.Order })
		if err := Check(h, time.Minute); ordered != (err == nil) {
			t.Fatalf("seed %d: the intervals say %v, the orders %v", seed, v.Violations, err)
		}
		verdicts[ordered]++
	}
	if verdicts[true] < 1000 || verdicts[false] < 1000 {
		t.Errorf("not much of a test: %v", verdicts)
	}
}

// anyTenures returns some tenures that nearly follow one another.
func anyTenures(rng *rand.Rand) (all []history.Tenure) {
	n, at := 1+rng.IntN(5), 10
	epochs := rng.Perm(n)
	for i := range n {
		to := at + 2 + rng.IntN(10)
		epoch := uint64(i + 1)
		if rng.IntN(4) == 0 {
			epoch = uint64(epochs[i] + 1)
		}
		one := spell(epoch, at, to)
		if rng.IntN(3) == 0 {
			one = unseen(epoch, at, to)
		}
		one.Instance = fmt.Sprint(i)
		one.Sought -= time.Duration(rng.IntN(8)) * ms
		one.Sought = min(one.Sought, one.Valid)
		one.Over += time.Duration(rng.IntN(8)) * ms
		// No two at the same instant: which of them came first is a matter of taste.
		for _, m := range []*time.Duration{&one.Sought, &one.Owned, &one.Valid, &one.Over} {
			*m += time.Duration(len(all))
		}
		all = append(all, one)
		at = to + 1 - rng.IntN(5)*rng.IntN(3)
	}
	return all
}

// many is a long history in order, and what a window costs must not grow with it:
// an hour has tens of thousands of tenures.
func many(n int) []history.Tenure {
	var all []history.Tenure
	for i := range n {
		all = append(all, released(uint64(i+1), 10+20*i, 20+20*i))
	}
	return all
}

func TestLongHistory(t *testing.T) {
	h := &history.History{Tenures: many(20_000)}
	if err := Check(h, time.Minute); err != nil {
		t.Error(err)
	}
	for i := range h.Tenures[:least] {
		h.Tenures[i].Epoch += 50_000 // above all that come later, though they grow within each window
	}
	if err := Check(h, time.Minute); err == nil || errors.Is(err, ErrUndecided) {
		t.Error(err)
	}
}

// No tenure is lost by the cutting, and none is parted from what happened at the
// same time.
func TestCut(t *testing.T) {
	sizes := func(all []history.Tenure) (n []int) {
		h := &history.History{Tenures: all}
		for _, w := range cut(h.Owned("x")) {
			n = append(n, len(w))
		}
		return n
	}
	all := many(3 * least)
	if got, want := sizes(all), []int{least, least, least}; !slices.Equal(got, want) {
		t.Errorf("windows of %v, want %v", got, want)
	}
	all[least-1].Over = all[least+6].Over // these are at once
	if got, want := sizes(all), []int{least + 7, least, least - 7}; !slices.Equal(got, want) {
		t.Errorf("windows of %v, want %v", got, want)
	}
	all[least-1].Over = 0 // for ever, for all that is known
	if got, want := sizes(all), []int{3 * least}; !slices.Equal(got, want) {
		t.Errorf("windows of %v, want %v", got, want)
	}
}

func TestNoTimeIsNoVerdict(t *testing.T) {
	h := &history.History{Tenures: many(3)}
	if err := Check(h, -time.Second); !errors.Is(err, ErrUndecided) {
		t.Error(err)
	}
	// Very many at once, in no order: there is not enough time in the world.
	h.Tenures = nil
	for i := range uint64(60) {
		one := spell(100+i, 10, 1000)
		one.Sought, one.Owned, one.Valid, one.Over = 1, 1000*ms, 1, 1000*ms
		h.Tenures = append(h.Tenures, one)
	}
	h.Tenures = append(h.Tenures, released(1, 400, 500), spell(2, 300, 450))
	if err := Check(h, 50*ms); !errors.Is(err, ErrUndecided) {
		t.Error(err)
	}
}
