package owner

import (
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// Where many processes stand by at one lease, all hear of its end at the same moment.
// One of them is first in line, and takes the lease at once; the others give it the
// time to, and look at random moments after that. Else the first of a hundred would
// wait for the processor until all had looked.
//
// The line decides when to look, and nothing else: without it, or with its first one
// hanging, the lease is taken a few hundredths of a second later.

// shortestAside and longestAside bound for how long a follower steps aside: each draws
// its own time between them.
const (
	shortestAside = 8 * time.Millisecond
	longestAside  = 48 * time.Millisecond
)

// A lined store keeps a line of those who stand by.
type lined interface {
	// placeInLine returns the first place, if that is held or to be had, and whether
	// another instance has it.
	placeInLine(held disk.Lock) (place disk.Lock, behind bool)
	// acquiring reports whether another instance is about to acquire the lease. It must
	// cost little.
	acquiring() bool
	// watchUntil is Watch until a hint says that it is the last. With successors, it may
	// tell of new owners only. steady says that the subscription is for any holder: none
	// begins anew with another.
	watchUntil(holder Record, successors bool, hint func() (last bool)) (stop func(), steady bool, err error)
}

// mostPlaces bounds the descriptors that a process spends on being first in line. At
// the other leases it acts as if it were the first, and holds nothing.
const mostPlaces = 16

var places atomic.Int32

// placeInLine locks the record's own file, which nothing else does: it is another file
// with the next owner, and the line begins anew.
func (s *fileStore) placeInLine(held disk.Lock) (place disk.Lock, behind bool) {
	if held != nil {
		if same, err := held.At(s.path); same && err == nil {
			return held, false
		}
		leaveLine(held)
	}
	if runtime.GOOS == "windows" { // others cannot read what is locked there
		return nil, false
	}
	l, err := s.Lock(s.path, os.O_RDONLY)
	switch {
	case err != nil:
		return nil, false
	case l == nil:
		return nil, true
	}
	if places.Add(1) > mostPlaces {
		leaveLine(l)
		return nil, false
	}
	return l, false
}

func leaveLine(place disk.Lock) {
	if place != nil {
		_ = place.Unlock()
		places.Add(-1)
	}
}

// acquiring tries the guard, shared: an instance that wants it at this very moment
// tries again.
func (s *fileStore) acquiring() bool {
	l, err := s.RLock(leasename.Guard(s.path))
	if l != nil {
		_ = l.Unlock()
	}
	return l == nil && err == nil
}

// lineUp takes or keeps a place in the line where another instance owns the lease, and
// leaves the line where none does.
func (h *hints) lineUp(owned bool) {
	s, ok := h.store.(lined)
	if !ok || !h.standing {
		return
	}
	h.mu.Lock()
	place := h.place
	h.place = nil
	h.mu.Unlock()
	if !owned {
		h.behind.Store(false)
		leaveLine(place)
		return
	}
	place, behind := s.placeInLine(place)
	h.behind.Store(behind)
	h.mu.Lock()
	if !h.ended {
		h.place, place = place, nil
	}
	h.mu.Unlock()
	leaveLine(place) // the standing by has ended
}

// farBehind reports whether this follower leaves the end of an owner to others: to the
// first in line, and to those who look a while afterwards, should the first one hang.
// They are one in sixteen, by chance, as none knows how many there are.
func (h *hints) farBehind() bool {
	const others = 16
	if h.lot == 0 {
		h.lot = 1 + rand.IntN(others)
	}
	return h.behind.Load() && h.lot > 1
}
