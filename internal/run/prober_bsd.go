//go:build unix && !linux

package run

import (
	"context"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// endProbe ends the probe's process group.
func endProbe(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

func ownGroupFor(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// whenAlone ends the probe when the process that has started this one is gone, or does not
// want to know any more: stdin is a pipe from it.
func whenAlone(end context.CancelFunc) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
}

// adoptOrphans does nothing: there are no subreapers here.
func adoptOrphans() {}
