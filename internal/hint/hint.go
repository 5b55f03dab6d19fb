// Package hint tells when a lease may have changed. Nobody's safety depends on a
// hint: whoever gets one looks, so one too many is harmless, and one too few costs
// time. Network file systems send none.
//
// A hint is called with the package's locks held, so that none comes after its
// stop has returned: it must not block, nor call this package.
package hint

import "slices"

// A subscriber's hint says when it is the last one.
type subscriber struct {
	hint   func() (last bool)
	enough bool
}

// always is a hint that is never the last.
func always(hint func()) *subscriber {
	return &subscriber{hint: func() bool { hint(); return false }}
}

// hints are called together.
type hints []*subscriber

func (h hints) call() {
	for _, l := range h {
		if !l.enough {
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
