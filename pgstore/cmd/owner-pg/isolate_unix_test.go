//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// isolate gives a process its own group: what stops its group must not stop the test.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// shellCode is the exit code as a shell reports it.
func shellCode(s *os.ProcessState) int {
	if ws := s.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}
