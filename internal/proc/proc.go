// Package proc ends another process, and never one that has merely come by its pid: a
// process is held by what the operating system keeps to it while it is held (a pidfd, a
// handle), and told by when it was started.
package proc

import (
	"context"
	"errors"
	"os"
	"sync"
)

// A Process is one that is held: whatever is asked or done is about the process that had
// the pid when it was opened, even when that has ended and the pid is another's. Where it
// has ended, the methods other than Wait and Close return os.ErrProcessDone.
type Process interface {
	// Started tells the process from all others of this machine that have its pid, now or
	// at another time: see the function Started.
	Started() (string, error)
	// SameUser reports whether the process is of the user that this process is of.
	SameUser() (bool, error)
	// Kill ends the process, stopped or not. It does not wait for its end.
	Kill() error
	// Wait returns nil when the process has ended, and else the cause of ctx's end.
	Wait(ctx context.Context) error
	Close()
}

// ErrUnsupported says that this system has nothing to hold a process by, or does not
// allow it here. It matches errors.ErrUnsupported.
var ErrUnsupported error = unsupported{}

type unsupported struct{}

func (unsupported) Error() string {
	return "this system cannot end another process without the risk that its pid is another's by then"
}

func (unsupported) Is(target error) bool { return target == errors.ErrUnsupported }

// Open holds the process of a pid, in this process's pid namespace. It returns
// os.ErrProcessDone if there is none.
func Open(pid int) (Process, error) {
	if pid <= 0 {
		return nil, os.ErrProcessDone
	}
	return open(pid)
}

// Started says when this process was started, in a form that is to be compared for
// equality only, by processes that share its clock.Domain. It is "" where that is not to
// be known.
func Started() string { return started() }

var started = sync.OnceValue(func() string {
	s, err := ownStart()
	if err != nil {
		return ""
	}
	return s
})
