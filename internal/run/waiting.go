package run

import (
	"os"
	"time"

	"github.com/ownerlease/owner"
)

// waitingGap is the time from the first call of Waiting to the second. It doubles with
// each, up to longestGap: a report after a hundred hours is not urgent, and each call may
// ask a server.
const (
	waitingGap = 2 * time.Second
	longestGap = time.Minute
)

// A waitTeller makes a call from time to time, as a standby gets no event when one
// holder follows another.
type waitTeller struct {
	call  func(isOver func() bool)
	after time.Duration // when it is first made
	over  <-chan struct{}
}

func tellWait(w waitTeller) { go w.tell() }

func (w *waitTeller) tell() {
	next := time.Now().Add(w.after)
	for gap := waitingGap; w.sleepUntil(next); gap = min(2*gap, longestGap) {
		w.call(w.isOver)
		next = time.Now().Add(gap)
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

// A Mirror tells a standby that it has seen itself: an acquisition can be read before its
// own process is told that the wait is over.
type Mirror struct{ seen string }

// Shows reports whether the record can be this process's. A process in another container
// can have the same number, and host name; but what is seen a second time, a good while
// later, is another's, as this process would have been told.
func (m *Mirror) Shows(rec owner.Record) bool {
	host, err := os.Hostname()
	if rec.PID != os.Getpid() || err != nil || rec.Host != host {
		return false
	}
	again := m.seen == rec.InstanceID
	m.seen = rec.InstanceID
	return !again
}
