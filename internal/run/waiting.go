package run

import (
	"time"

	"github.com/ownerlease/owner"
)

// waitingGap is the least time between two calls of Waiting.
const waitingGap = time.Second

// A waitTeller calls Waiting for every holder that the lease is refused for.
type waitTeller struct {
	o       *Options
	refused chan uint64 // the holder's epoch, the newest one only
	over    chan struct{}
}

func newWaitTeller(o *Options) *waitTeller {
	w := &waitTeller{o, make(chan uint64, 1), make(chan struct{})}
	if o.Waiting != nil && !o.Nonblock {
		go w.tell()
	}
	return w
}

// transition is called from one goroutine.
func (w *waitTeller) transition(t owner.Transition) {
	if t.To != owner.StateFollower {
		return
	}
	select {
	case <-w.refused: // an older one
	default:
	}
	w.refused <- t.Epoch
}

func (w *waitTeller) tell() {
	next := time.Now().Add(w.o.WaitingAfter)
	for told, first := uint64(0), true; ; first = false {
		epoch, ok := w.change(told, first)
		if !ok || !w.sleepUntil(next) {
			return
		}
		told, next = epoch, time.Now().Add(waitingGap)
		w.o.Waiting(w.isOver)
	}
}

// change waits for another holder than the last one that was told of.
func (w *waitTeller) change(told uint64, first bool) (uint64, bool) {
	for {
		select {
		case epoch := <-w.refused:
			if first || epoch != told {
				return epoch, true
			}
		case <-w.over:
			return 0, false
		}
	}
}

func (w *waitTeller) sleepUntil(t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return !w.isOver()
	case <-w.over:
		return false
	}
}

func (w *waitTeller) isOver() bool {
	select {
	case <-w.over:
		return true
	default:
		return false
	}
}
