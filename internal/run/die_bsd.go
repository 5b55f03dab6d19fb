//go:build unix && !linux

package run

import "syscall"

// leaveNoCore leaves the core dump to the command: it is about that.
func leaveNoCore() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err == nil {
		limit.Cur = 0
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
}

// restoreDefault reports whether signal.Reset has given the signal its default
// action back: the Go runtime prints its goroutines for SIGQUIT, and ignores others.
func restoreDefault(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL:
		return true
	}
	return false
}
