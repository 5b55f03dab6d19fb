package run

import "time"

// waitingGap is the least time between two calls of Waiting.
const waitingGap = 2 * time.Second

// A waitTeller calls Waiting from time to time, as a standby is not told when one
// holder follows another.
type waitTeller struct {
	o    *Options
	over chan struct{}
}

func newWaitTeller(o *Options) *waitTeller {
	w := &waitTeller{o, make(chan struct{})}
	if o.Waiting != nil && !o.Nonblock {
		go w.tell()
	}
	return w
}

func (w *waitTeller) tell() {
	for next := time.Now().Add(w.o.WaitingAfter); w.sleepUntil(next); next = time.Now().Add(waitingGap) {
		w.o.Waiting(w.isOver)
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
