//go:build linux || darwin || freebsd

package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// read reads the clock that Go's monotonic clock is made of.
func read() (time.Duration, bool) {
	var ts unix.Timespec
	if err := unix.ClockGettime(clockID, &ts); err != nil {
		return 0, false
	}
	return time.Duration(ts.Nano()), true
}
