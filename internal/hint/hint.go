// Package hint reports when a lease may have changed. Safety never depends on a hint: its
// receiver reads the lease, so one too many is harmless, and one too few costs time.
// Network file systems send none.
//
// A hint is called with the package's locks held, so that none comes after its
// stop has returned: it must not block, nor call this package.
package hint

import "slices"

// A subscriber's hint returns whether it is the last one.
type subscriber struct {
	hint   func() (last bool)
	enough bool
	// successors: only a new record gives it a hint.
	successors bool
}

// wants says which changes a subscriber still wants hints of.
func (l *subscriber) wants() want {
	switch {
	case l.enough:
		return nothingMore
	case l.successors:
		return newRecords
	}
	return everything
}

// A want is how much is to be asked of the operating system.
type want int

const (
	nothingMore want = iota
	newRecords
	everything
)

// always is a hint that is never the last.
func always(hint func()) *subscriber {
	return &subscriber{hint: func() bool { hint(); return false }}
}

// hints are called together.
type hints []*subscriber

func (h hints) call() { h.callWho(newRecords) }

// callWho calls the subscribers that want at least as much.
func (h hints) callWho(want want) {
	for _, l := range h {
		if l.wants() >= want {
			l.enough = l.hint()
		}
	}
}

// without returns the others, and whether the subscriber was among them.
func (h hints) without(l *subscriber) (hints, bool) {
	i := slices.Index(h, l)
	if i < 0 {
		return h, false
	}
	return slices.Delete(h, i, i+1), true
}

func nothing() {}
