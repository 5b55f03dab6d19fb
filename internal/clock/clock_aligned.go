//go:build !windows

package clock

import "time"

// start is where Now begins to count on Go's own monotonic clock.
var start = time.Now()

// offset is what the shared clock showed at start.
var offset = align(read)

// Now returns the reading of the shared clock. Readings of two processes can be
// compared if both have the same Domain, which is not empty.
//
// It is Go's monotonic clock moved by an offset: the two are the same clock
// with another zero, and Go reads it without a system call.
func Now() time.Duration { return offset + time.Since(start) }

// align returns the shared clock's reading at start. A process can be paused
// between the readings of the two clocks, so the pair that was read within the
// shortest time is taken: the error is at most that time, which is well below a
// microsecond.
func align(read func() (time.Duration, bool)) time.Duration {
	var best, offset time.Duration
	for i := range 16 {
		before := time.Since(start)
		shared, ok := read()
		after := time.Since(start)
		if !ok {
			return 0
		}
		if took := after - before; i == 0 || took < best {
			best, offset = took, shared-before-took/2
		}
	}
	return offset
}
