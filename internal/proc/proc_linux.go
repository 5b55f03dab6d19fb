package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A pidfd stays with its process: the kernel delivers a signal to that one, or to none.
type pidfd struct {
	file *os.File
	conn syscall.RawConn
}

func open(pid int) (Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch err {
	case nil:
	case unix.ESRCH, unix.EINVAL, unix.ENOENT: // the last two: a thread has this number
		return nil, os.ErrProcessDone
	case unix.ENOSYS, unix.EPERM: // Linux before 5.3, or a filter of system calls
		return nil, fmt.Errorf("%w: pidfd_open: %w", ErrUnsupported, err)
	default:
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	// So that Go's poller waits for it, and no thread. PIDFD_NONBLOCK needs Linux 5.10.
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
	return &pidfd{file, conn}, nil
}

// with calls f with the descriptor.
func (p *pidfd) with(f func(fd int) error) error {
	var err error
	if cerr := p.conn.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// Started is the start time in clock ticks since the boot.
func (p *pidfd) Started() (string, error) {
	b, err := p.read("stat")
	if err != nil {
		return "", err
	}
	return startOf(b)
}

// ownStart needs no pidfd: what this process can be ended by is for others to have.
func ownStart() (string, error) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return "", err
	}
	return startOf(b)
}

// startOf finds the start time in /proc/PID/stat.
func startOf(stat []byte) (string, error) {
	// The second field is the program's name, in parentheses, and can have any character.
	rest := stat[bytes.LastIndexByte(stat, ')')+1:]
	const after = 22 - 3 // of the first one behind the name
	fields := strings.Fields(string(rest))
	if len(fields) <= after {
		return "", errors.New("/proc has no start time of the process")
	}
	return fields[after], nil
}

// SameUser compares the real and the effective user: a program that runs with another
// user's rights is not this user's to end.
func (p *pidfd) SameUser() (bool, error) {
	b, err := p.read("status")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			ids, own := strings.Fields(rest), strconv.Itoa(os.Geteuid())
			return len(ids) > 1 && ids[0] == own && ids[1] == own, nil
		}
	}
	return false, errors.New("/proc does not say whose the process is")
}

// read reads a file in the process's folder of /proc. The number of the folder is the pid
// in the namespace that /proc is of, which the kernel tells for the pidfd. The number can
// become another process's before the file is read; that this process has not ended
// afterwards shows that it did not.
func (p *pidfd) read(name string) ([]byte, error) {
	number, err := p.number()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile("/proc/" + number + "/" + name)
	if p.ended() {
		return nil, os.ErrProcessDone
	}
	return b, err
}

func (p *pidfd) number() (number string, err error) {
	err = p.with(func(fd int) error {
		b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pid:"); ok {
				number = strings.TrimSpace(rest)
			}
		}
		return nil
	})
	if n, perr := strconv.Atoi(number); err == nil && (perr != nil || n <= 0) {
		if n < 0 || p.ended() {
			return "", os.ErrProcessDone
		}
		return "", errors.New("/proc does not show the process: it is of another pid namespace")
	}
	return number, err
}

func (p *pidfd) ended() bool {
	ended := false
	_ = p.with(func(fd int) error { ended = readable(uintptr(fd)); return nil })
	return ended
}

// readable reports whether the process has ended: a pidfd is readable from then on.
func readable(fd uintptr) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

func (p *pidfd) Kill() error {
	err := p.with(func(fd int) error { return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) })
	switch err {
	case unix.ESRCH:
		return os.ErrProcessDone
	case unix.ENOSYS:
		return fmt.Errorf("%w: pidfd_send_signal: %w", ErrUnsupported, err)
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

func (p *pidfd) Wait(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.file.SetReadDeadline(time.Unix(0, 1)) })()
	_ = p.conn.Read(readable)
	if p.ended() {
		return nil
	}
	return context.Cause(ctx)
}

func (p *pidfd) Close() { _ = p.file.Close() }
