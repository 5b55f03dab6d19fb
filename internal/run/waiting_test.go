package run

import (
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// Each holder is told of once, and the newest one is never missed.
func TestWaitingIsToldOfEachHolder(t *testing.T) {
	t.Parallel()
	told := make(chan struct{})
	w := newWaitTeller(&Options{Waiting: func(over func() bool) {
		if !over() {
			told <- struct{}{}
		}
	}})
	refuse := func(epoch uint64) { w.transition(owner.Transition{To: owner.StateFollower, Epoch: epoch}) }
	refuse(1)
	<-told
	begun := time.Now()
	refuse(1) // no change
	refuse(2)
	refuse(3)
	<-told
	if gap := time.Since(begun); gap < waitingGap*9/10 {
		t.Errorf("told again after %v", gap)
	}
	close(w.over)
	refuse(4)
	if !w.isOver() {
		t.Error("not over")
	}
}
