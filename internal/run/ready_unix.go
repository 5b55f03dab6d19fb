//go:build unix

package run

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ready reports whether the pipe can be read, or has been closed; false when the
// moment has come.
func ready(pipe *os.File, moment, longest time.Duration, now func() time.Duration) bool {
	for {
		left := min(max(0, moment-now()), longest)
		fds := []unix.PollFd{{Fd: int32(pipe.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
		if n > 0 || err == nil && left == 0 {
			return n > 0
		}
	}
}
