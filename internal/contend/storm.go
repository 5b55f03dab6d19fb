package contend

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A Lane does harm again and again, beside the others. Each turn takes as many pauses as it
// calls for, of up to this long each.
type Lane struct {
	Pause time.Duration
	Turn  func(pause func())
}

// Storm has all faults at any time, with owners that own shortly and often, until mend has
// ended them all.
func (tr *Trial[L]) Storm(length time.Duration, mend func(), lanes ...Lane) {
	tr.Stormy = true
	tr.Owner()
	ctx, end := context.WithTimeout(tr.Context(), length)
	defer end()
	var all sync.WaitGroup
	tr.Disturb(func() {
		for _, l := range append(lanes, Lane{tr.TTL / 8, tr.nag}) {
			all.Go(func() {
				for ctx.Err() == nil {
					l.Turn(func() { pause(ctx, rand.N(l.Pause)) })
				}
			})
		}
		all.Wait()
		mend()
	})
	tr.Settles()
}

// nag makes the owner release, after long or after short.
func (tr *Trial[L]) nag(pause func()) {
	for range OneOf([]int{1, 16}) {
		pause()
	}
	for _, c := range tr.Contenders {
		select {
		case c.yield <- make(chan time.Duration, 1):
		default:
		}
	}
}

// HurtLink returns a Lane's turn that harms a contender's link, the owner's as often as any,
// as Link can or in one of the other ways.
func (tr *Trial[L]) HurtLink(others ...func(L)) func(pause func()) {
	ways := append(others, L.Cut, L.Deafen, func(l L) { l.Delay(rand.N(tr.TTL / 20)) })
	return func(pause func()) {
		link := OneOf(tr.Contenders).Link
		if c := tr.Owning(); c != nil && rand.N(2) == 0 {
			link = c.Link
		}
		OneOf(ways)(link)
		for range OneOf([]int{1, 4}) {
			pause()
		}
		if rand.N(2) == 0 {
			link.Break()
		}
		link.Heal()
		pause()
	}
}

// Owning is the contender that owns the lease, nil when none does.
func (tr *Trial[L]) Owning() *Contender[L] {
	i := slices.IndexFunc(tr.Contenders, (*Contender[L]).Owns)
	if i < 0 {
		return nil
	}
	return tr.Contenders[i]
}

// OneOf returns one of them, by chance.
func OneOf[T any](all []T) T { return all[rand.N(len(all))] }
