package hint

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// An exit is a pidfd that waits in Go's poller: no thread is blocked.
type exit struct {
	file *os.File
	conn syscall.RawConn
}

func openExit(pid int) (*exit, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch err {
	case nil:
	case unix.ESRCH, unix.EINVAL, unix.ENOENT: // the last two: a thread has this number
		return nil, os.ErrProcessDone
	default:
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	// PIDFD_NONBLOCK would do the same, but not before Linux 5.10.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &exit{file, conn}, nil
}

func (e *exit) wait() { _ = e.conn.Read(readable) }

// readable reports whether the process has ended: a pidfd is readable from then on.
func readable(fd uintptr) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

func (e *exit) cancel() { _ = e.file.Close() }
func (e *exit) close()  { _ = e.file.Close() }
