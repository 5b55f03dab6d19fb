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

// Where many processes are standbys of one lease, all notice its end at the same moment.
// One of them is first in line, and acquires the lease at once; the others give it the
// time to, and poll at random moments after that. Else the first of a hundred would wait
// for the processor until all had polled.
//
// The line decides only when to poll: without it, or while the first in line hangs, the
// lease is acquired a few hundredths of a second later.

// shortestAside and longestAside bound for how long a follower steps aside: each draws
// its own time between them.
const (
	shortestAside = 8 * time.Millisecond
	longestAside  = 48 * time.Millisecond
)

// A lined store keeps a line of the standbys.
type lined interface {
	// placeInLine returns the first place, if this instance holds or can get it, and
	// whether another instance has it.
	placeInLine(held disk.Lock) (place disk.Lock, behind bool)
	// acquiring reports whether another instance is about to acquire the lease. It must
	// be cheap.
	acquiring() bool
	// watchUntil is Watch until a hint says that it is the last. With successors, it may
	// report new owners only. steady says that the subscription is for any holder, and
	// need not be renewed for another.
	watchUntil(holder Record, successors bool, hint func() (last bool)) (stop func(), steady bool, err error)
}

// mostPlaces bounds the descriptors that a process spends on being first in line. At
// further leases it acts as if it were the first, and holds nothing.
const mostPlaces = 16

var places atomic.Int32

// placeInLine locks the record's own file, which nothing else does: the next owner's
// record is another file, and the line begins anew.
func (s *fileStore) placeInLine(held disk.Lock) (place disk.Lock, behind bool) {
	if held != nil {
		if same, err := held.At(s.path); same && err == nil {
			return held, false
		}
		leaveLine(held)
	}
	if runtime.GOOS == "windows" { // others cannot read a locked file there
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

// lineUp takes or keeps a place in the line while another instance owns the lease, and
// leaves the line while none does.
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
	leaveLine(place) // no longer a standby
}

// farBehind reports whether this standby ignores the end of an owner, and leaves it to
// the first in line, and, should that one hang, to the standbys that poll a while
// afterwards. Those are one in sixteen, by chance, as no standby knows how many there
// are.
func (h *hints) farBehind() bool {
	const others = 16
	if h.lot == 0 {
		h.lot = 1 + rand.IntN(others)
	}
	return h.behind.Load() && h.lot > 1
}
