//go:build unix && !linux

package run

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// A terminal is the descriptor of this session's controlling terminal; -1 where
// there is none, for which every call fails.
type terminal int

func openTerminal() terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return terminal(fd)
}

func (t terminal) close() { _ = unix.Close(int(t)) }

// group returns the process group in the foreground: the one that may read, and
// that gets Ctrl-C. It returns 0 if t is not this session's terminal.
func (t terminal) group() int {
	group, err := unix.IoctlGetInt(int(t), unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

// ours reports whether this process may pass the terminal on: a background job must not
// take it from the shell.
func (t terminal) ours() bool { return t.group() == ownGroup() }

// interactive reports whether the command has the terminal alone. In a pipeline, as in
// "owner run … | less", another process may be reading it.
func (t terminal) interactive() bool {
	return t.ours() && terminal(syscall.Stdin).ours() && terminal(syscall.Stdout).ours()
}

func (t terminal) give(group int) { _ = unix.IoctlSetPointerInt(int(t), unix.TIOCSPGRP, group) }

// take brings this process's group back into the foreground. From the background
// that is refused with SIGTTOU, unless it is ignored.
func (t terminal) take() {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	t.give(ownGroup())
}

func ownGroup() int {
	group, err := unix.Getpgid(0)
	if err != nil {
		return -1 // cannot be: one can always ask for oneself
	}
	return group
}
