package run

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// leaveNoCore leaves the core dump to the command: it is about that. A limit alone
// does not count where the kernel hands the core to a program.
func leaveNoCore() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// restoreDefault gives the signal its default action back, which signal.Reset does
// not: the Go runtime prints its goroutines for SIGQUIT, and ignores others.
func restoreDefault(sig syscall.Signal) bool {
	var act [8]uint64 // larger than a struct sigaction; SIG_DFL, without flags, is zero
	const setSize = 8 // of a signal set
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, setSize, 0, 0)
	return errno == 0 || sig == syscall.SIGKILL
}
