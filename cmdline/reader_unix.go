//go:build unix

package cmdline

import (
	"os"

	"golang.org/x/sys/unix"
)

// whenUnread calls f when nobody reads a pipe or terminal any more. Waiting for
// the next write to find out could take for ever.
func whenUnread(out *os.File, f func()) {
	fds := []unix.PollFd{{Fd: int32(out.Fd())}} // an error or the end is always told
	for {
		n, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
			continue
		case n > 0 && fds[0].Revents&unix.POLLNVAL == 0:
			f()
		}
		return
	}
}
