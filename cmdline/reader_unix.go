//go:build unix

package cmdline

import (
	"os"

	"golang.org/x/sys/unix"
)

// whenUnread calls f when the reader of a pipe or terminal has gone. To wait for the next
// write could take for ever.
func whenUnread(out *os.File, f func()) {
	fds := []unix.PollFd{{Fd: int32(out.Fd())}} // an error or the end is always reported
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
