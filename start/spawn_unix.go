//go:build unix

package start

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const noWait = syscall.O_NONBLOCK | syscall.O_NOFOLLOW

// A system has nothing more here than the pid: until it is waited for, that is no other's.
type system struct{ pid int }

func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

func newChild(p *os.Process, l *log) *child {
	c := &child{since: time.Now(), log: l, system: system{p.Pid}}
	_ = p.Release() // it is waited for by its pid, without a goroutine that lasts as long as it
	return c
}

// poll reports whether the process has ended, and takes its status.
func (c *child) poll() bool {
	if !c.ended {
		c.status, c.ended = wait(c.pid)
	}
	return c.ended
}

func wait(pid int) (s status, ended bool) {
	var ws syscall.WaitStatus
	for {
		switch got, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); {
		case err == syscall.EINTR:
		case err != nil: // this process ignores SIGCHLD, or waits for all its children
			return status{-1, "a status that is not known, as this process does not wait for its children by itself"}, errors.Is(err, syscall.ECHILD)
		case got != pid:
			return status{}, false
		case ws.Signaled():
			return status{-1, fmt.Sprintf("signal %d (%v)", ws.Signal(), ws.Signal())}, true
		default:
			return status{ws.ExitStatus(), fmt.Sprintf("exit status %d", ws.ExitStatus())}, true
		}
	}
}

// tell tells the process and its group to end, or ends them.
func (c *child) tell(kill bool) {
	sig := syscall.SIGTERM
	if kill {
		sig = syscall.SIGKILL
	}
	_ = syscall.Kill(-c.pid, sig)
}

// exists reports whether there is a process of this number.
func exists(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || err == syscall.EPERM
}

// running are the processes that were started and left, until they have ended and were
// waited for: they would stay as zombies otherwise. A timer asks, so that no goroutine and
// no thread waits for as long as they run.
var running = struct {
	sync.Mutex
	pids  map[int]struct{}
	timer *time.Timer
}{pids: map[int]struct{}{}}

// reapEvery is how long a zombie stays at most.
const reapEvery = 5 * time.Second

// leave leaves the process to itself.
func (c *child) leave() {
	if c.ended {
		return
	}
	running.Lock()
	defer running.Unlock()
	running.pids[c.pid] = struct{}{}
	if running.timer == nil {
		running.timer = time.AfterFunc(reapEvery, reapEnded)
	}
}

// reapEnded waits for those that have ended.
func reapEnded() {
	running.Lock()
	defer running.Unlock()
	for pid := range running.pids {
		if _, ended := wait(pid); ended {
			delete(running.pids, pid)
		}
	}
	switch {
	case running.timer == nil:
	case len(running.pids) == 0:
		running.timer.Stop()
		running.timer = nil
	default:
		running.timer.Reset(reapEvery)
	}
}

func adviseSystem(err error) string {
	if errors.Is(err, syscall.ENOEXEC) {
		return "it is no program of this system: a script needs a first line such as #!/bin/sh"
	}
	return ""
}
