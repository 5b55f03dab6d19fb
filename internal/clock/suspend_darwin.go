package clock

import "golang.org/x/sys/unix"

// Mach's continuous time. CLOCK_MONOTONIC counts sleep as well, but is moved when
// the wall clock is set.
const suspendClockID = unix.CLOCK_MONOTONIC_RAW
