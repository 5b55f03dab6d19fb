package main

import (
	"sync"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// A Sight is what one view has answered so far, by the shared clock.
type Sight struct {
	View    string
	LastYes time.Duration // when it was last asked and said that this process owns
	FirstNo time.Duration // when it was first asked and said that it does not; 0: never yet
	// After a pause of the process, a stop: the first answer.
	Resumed    time.Duration // 0: there was none
	ResumedYes bool
}

// An observer asks views all the time.
type observer struct {
	views []view

	mu        sync.Mutex
	sights    []Sight
	busyUntil time.Duration // by the clock: until then, it asks without a pause
}

func newObserver(views []view) *observer {
	o := &observer{views: views, sights: make([]Sight, len(views))}
	for i, v := range views {
		o.sights[i].View = v.name
	}
	return o
}

func (o *observer) run() {
	last := clock.Now()
	for {
		now := clock.Now()
		if !o.ask(now, now-last > ttl/2) {
			time.Sleep(askEvery)
		}
		last = now
	}
}

// work makes the asking a process's main work for a while: one that is stopped in the
// middle of it continues in the middle of it, as real work does.
func (o *observer) work() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busyUntil = clock.Now() + busy
}

// ask asks each view once. A yes is from before the question, a no from after it,
// so that a stop in between makes neither of them worse than it was.
func (o *observer) ask(now time.Duration, resumed bool) (working bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, v := range o.views {
		s := &o.sights[i]
		yes := v.owns()
		switch {
		case yes:
			s.LastYes = now
		case s.FirstNo == 0:
			s.FirstNo = clock.Now()
		}
		if resumed {
			s.Resumed, s.ResumedYes = now, yes
		}
	}
	return now < o.busyUntil
}

func (o *observer) seen() []Sight {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Sight(nil), o.sights...)
}
