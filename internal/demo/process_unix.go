//go:build unix

package demo

import (
	"os"
	"os/exec"
	"syscall"
)

// What is done to the processes, in words.
const (
	killing  = "kill -9"
	stopping = "SIGSTOP"
	resuming = "SIGCONT"
)

// isolate gives a child its own process group: the parent handles Ctrl-C, and if the
// parent dies, the kernel resumes what it has stopped there.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func suspend(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
