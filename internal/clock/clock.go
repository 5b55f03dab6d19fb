// Package clock reads a clock that all processes of this machine share, that
// never steps, and that does not count the time in which the machine is
// suspended (on FreeBSD: as the kernel has it).
package clock

// Domain names the clock that Now reads. Processes on one machine, in one time
// namespace and since one boot have the same. "" means that there is no shared
// clock here: readings of other processes mean nothing.
func Domain() string { return domain() }
