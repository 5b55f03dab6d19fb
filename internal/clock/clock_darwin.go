package clock

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Mach's absolute time in nanoseconds, which Go's monotonic clock is, too.
const clockID = unix.CLOCK_UPTIME_RAW

// kern.boottime moves when the wall clock is set; the session's UUID does not.
var domain = sync.OnceValue(func() string {
	boot, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil || boot == "" {
		return ""
	}
	return "darwin " + boot
})
