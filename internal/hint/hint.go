// Package hint tells when a lease may have changed. Nobody's safety depends on a
// hint: whoever gets one looks, so one too many is harmless, and one too few costs
// time. Network file systems send none.
//
// A hint is called with the package's locks held, so that none comes after its
// stop has returned: it must not block, nor call this package.
package hint

import "slices"

// hints are called together. The pointers tell apart those that are the same
// function.
type hints []*func()

func (h hints) call() {
	for _, hint := range h {
		(*hint)()
	}
}

// without returns the others, and whether the hint was among them.
func (h hints) without(hint *func()) (hints, bool) {
	i := slices.Index(h, hint)
	if i < 0 {
		return h, false
	}
	return slices.Delete(h, i, i+1), true
}

func nothing() {}
