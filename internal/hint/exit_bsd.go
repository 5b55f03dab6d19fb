//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package hint

import (
	"os"

	"golang.org/x/sys/unix"
)

// An exit is a kqueue that waits for the process, or for the pipe to be closed.
type exit struct {
	queue               int
	canceled, canceling *os.File
}

func openExit(pid int) (_ *exit, err error) {
	e := &exit{}
	if e.canceled, e.canceling, err = os.Pipe(); err != nil {
		return nil, err
	}
	if e.queue, err = unix.Kqueue(); err != nil {
		e.queue = -1
		e.close()
		return nil, os.NewSyscallError("kqueue", err)
	}
	unix.CloseOnExec(e.queue)
	if err := e.register(pid); err != nil {
		e.close()
		if err == unix.ESRCH { // it may have ended just now
			return nil, os.ErrProcessDone
		}
		return nil, os.NewSyscallError("kevent", err)
	}
	return e, nil
}

func (e *exit) register(pid int) error {
	var changes [2]unix.Kevent_t
	unix.SetKevent(&changes[0], int(e.canceled.Fd()), unix.EVFILT_READ, unix.EV_ADD)
	unix.SetKevent(&changes[1], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	changes[1].Fflags = unix.NOTE_EXIT
	return e.kevent(changes[:], nil)
}

func (e *exit) wait() {
	var events [1]unix.Kevent_t
	_ = e.kevent(nil, events[:])
}

func (e *exit) kevent(changes, events []unix.Kevent_t) error {
	for {
		if _, err := unix.Kevent(e.queue, changes, events, nil); err != unix.EINTR {
			return err
		}
	}
}

func (e *exit) cancel() { _ = e.canceling.Close() }

func (e *exit) close() {
	if e.queue >= 0 {
		_ = unix.Close(e.queue)
	}
	_ = e.canceling.Close()
	_ = e.canceled.Close()
}
