//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// isolate gives a process its own group: the director handles Ctrl-C, and if that dies,
// the kernel resumes what it has stopped.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func canStop() error { return nil }

func (p *process) stop() error   { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
