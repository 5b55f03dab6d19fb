//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// isolate gives a process a group of its own: what stops its group must not stop
// the test.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
