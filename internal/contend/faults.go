package contend

import (
	"errors"
	"slices"
	"time"

	"github.com/ownerlease/owner"
)

// OwnerAndOthers has one contender own, which does not come back when it has lost the
// lease, and two standbys.
func (tr *Trial[L]) OwnerAndOthers() (a *Contender[L], others []*Contender[L]) {
	tr.Helper()
	a = tr.Contend()
	a.OwnsOnce()
	tr.Owner()
	others = []*Contender[L]{tr.Contend(), tr.Contend()}
	tr.Looked(others...)
	return a, others
}

// Handover goes from one to the other, without a fault. The one that has released may be
// quicker than the other, and own again.
func (tr *Trial[L]) Handover(times int) {
	tr.Contend()
	tr.Contend()
	var took []time.Duration
	for range times {
		a := tr.Owner()
		tr.Looked(tr.Contenders...)
		began := a.Releases()
		if tr.Owner() != a {
			took = append(took, tr.Now()-began)
		}
	}
	slices.Sort(took)
	tr.Logf("handed over %d times, in %v", len(took), took)
}

// Stays has one own for longer than a TTL, by its renewals.
func (tr *Trial[L]) Stays() {
	a, _ := tr.OwnerAndOthers()
	tr.Renews(a, 16)
}

// RequestsHeldBack is what others see of an owner that crashes too, while this one continues
// until its deadline.
func (tr *Trial[L]) RequestsHeldBack() {
	a, _ := tr.OwnerAndOthers()
	a.Link.Cut()
	cut := tr.Now()
	tr.expires(a)
	by := tr.Owner()
	tr.Logf("cut off %v after the last renewal, with a TTL of %v; another owns %v after its end",
		cut-a.Spy.From(), tr.TTL, by.Spy.Elected()-a.Spy.Expires())
	// What it has sent is not lost, and is applied now: to release the lease, for one.
	a.Link.Heal()
	tr.Renews(by, 3)
}

// AnswersHeldBack lets its renewals be applied, as far as it comes with them.
func (tr *Trial[L]) AnswersHeldBack() {
	a, _ := tr.OwnerAndOthers()
	a.Link.Deafen()
	tr.expires(a)
	by := tr.Owner()
	a.Link.Heal()
	tr.Renews(by, 3)
}

func (tr *Trial[L]) expires(a *Contender[L]) {
	tr.Helper()
	if lost := a.Loses(); !errors.Is(lost, owner.ErrExpired) {
		tr.Errorf("lost for another reason: %v", lost)
	}
}

// CutOffForAMoment is a network that comes back when away has returned, in time: that costs
// nothing.
func (tr *Trial[L]) CutOffForAMoment(away func(a *Contender[L])) {
	a, _ := tr.OwnerAndOthers()
	a.Link.Cut()
	away(a)
	a.Link.Heal()
	tr.Renews(a, 3)
}
