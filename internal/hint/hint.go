// Package hint tells when a lease may have changed. Nobody's safety depends on a
// hint: whoever gets one looks, so one too many is harmless, and one too few costs
// time. Network file systems send none, and neither does a folder that is
// unmounted.
//
// A hint is called with the package's locks held, so that none comes after its
// stop has returned: it must not block, nor call this package.
package hint

// hints are called together. The key tells apart those that are the same function.
type hints map[*func()]struct{}

func (h hints) call() {
	for hint := range h {
		(*hint)()
	}
}

func nothing() {}
