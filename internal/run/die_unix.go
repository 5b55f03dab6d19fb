//go:build unix

package run

import (
	"os/signal"
	"syscall"
	"time"
)

// Die ends this process by the signal that has ended its command. A shell or make checks
// for that, to end as well: an exit code of 128+n means to them that Ctrl-C was handled.
// It returns if the signal does not end this process.
func Die(sig syscall.Signal) {
	signal.Reset(sig)
	if !restoreDefault(sig) {
		return
	}
	leaveNoCore()
	_ = syscall.Kill(syscall.Getpid(), sig)
	time.Sleep(100 * time.Millisecond) // it can reach another thread, and takes a moment; blocked, it does not come
}
