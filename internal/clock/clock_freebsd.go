package clock

import "golang.org/x/sys/unix"

const clockID = unix.CLOCK_MONOTONIC

// FreeBSD has no id of a boot that does not move with the clock. None is needed:
// after a reboot no lock of the old owner's is held.
func domain() string { return "freebsd" }
