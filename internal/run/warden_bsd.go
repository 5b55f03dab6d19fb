//go:build unix && !linux

package run

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// A warden is a small process, in a new session, that kills the command's group when this
// process cannot: because it was killed, which closes the pipe between them, or because
// it is stopped, and the deadline that it sent to the warden last passes. If this process
// ends in order, it kills the warden.
type warden struct {
	pid    int
	reaped chan struct{} // closed by reap
	pipe   *os.File
}

// wardenEnv makes a warden of this program. It is no interface.
const wardenEnv = "_OWNER_WARDEN"

func startWarden() (*warden, error) {
	self, err := executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// Without the command's stdout and stderr: their reader waits for all that have them
	// open. And without a folder, which might have to be unmounted.
	cmd := &exec.Cmd{
		Path: self, Args: []string{"owner-warden"}, Dir: "/",
		Env:         append(os.Environ(), wardenEnv+"=1"),
		Stdin:       r,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("cannot start this program again, to watch over COMMAND: %w", err)
	}
	return &warden{pid: cmd.Process.Pid, reaped: make(chan struct{}), pipe: w}, nil
}

// news is a message to the warden: fewer bytes than a pipe would split.
type news struct {
	Group      int64
	LastMoment time.Duration
	Base       timebase // of LastMoment
}

// tell blocks when the warden does not read. If the warden is dead, it is not replaced:
// what has killed it could kill the rest as well.
func (w *warden) tell(n news) {
	_ = binary.Write(w.pipe, binary.NativeEndian, n)
}

func (w *warden) end() {
	select {
	case <-w.reaped:
	default:
		_ = syscall.Kill(w.pid, syscall.SIGKILL)
		<-w.reaped
	}
	_ = w.pipe.Close()
}

func beWarden() {
	// A kill of all programs of this name means this process's parent, which
	// ends the command in order.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	watchOver(os.Stdin)
	os.Exit(0)
}

// watchOver returns when the group has been killed.
func watchOver(pipe *os.File) {
	var last news
	for {
		// News that waits counts even when the deadline has passed: the warden itself can
		// have been stopped.
		if last.Group != 0 && !ready(pipe, last.LastMoment, last.Base.longestWait(), last.Base.now) {
			break
		}
		if err := binary.Read(pipe, binary.NativeEndian, &last); err != nil {
			break
		}
	}
	// More than once: where the kill is not atomic, a process that is being forked
	// escapes. Not for ever: a zombie counts, and may have no parent that reaps it.
	for range 100 {
		if last.Group == 0 || syscall.Kill(-int(last.Group), syscall.SIGKILL) != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_, _ = io.Copy(io.Discard, pipe) // until the parent has ended, or ends the warden
}
