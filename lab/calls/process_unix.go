//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// isolate gives a process its own group: the director handles Ctrl-C, and if that dies,
// the kernel resumes what it has stopped.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

const canStop = true

func (p *process) stop()      { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume()    { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
func (p *process) terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }
