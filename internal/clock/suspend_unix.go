//go:build linux || darwin

package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

func withSuspend() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(suspendClockID, &ts); err != nil {
		// Every kernel that Go runs on has the clock. Another one would step from it, so
		// there is no fallback.
		panic(fmt.Sprintf("clock: read the clock that counts suspends: %v", err))
	}
	return time.Duration(ts.Nano())
}
