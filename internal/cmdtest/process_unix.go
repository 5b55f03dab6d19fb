//go:build unix

package cmdtest

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// isolate gives a process its own group: what stops its group must not stop the test.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// heedSignals makes the tests' processes start with no signal ignored, as in a terminal:
// nohup ignores some, and so does a shell for its background jobs. A child does not
// inherit what its parent catches.
func heedSignals() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// ShellCode is the exit code as a shell reports it.
func ShellCode(s *os.ProcessState) int {
	if ws := s.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

// Signal sends it a signal.
func (p *Process) Signal(sig syscall.Signal) {
	p.T.Helper()
	if err := p.Cmd.Process.Signal(sig); err != nil {
		p.T.Fatal(err)
	}
}

// SignalJob sends a signal as a shell does: to the whole group.
func (p *Process) SignalJob(sig syscall.Signal) {
	p.T.Helper()
	if err := syscall.Kill(-p.Cmd.Process.Pid, sig); err != nil {
		p.T.Fatal(err)
	}
}
