//go:build !unix

package cmdtest

import (
	"os"
	"os/exec"
)

func isolate(*exec.Cmd) {}

func heedSignals() {}

// ShellCode is the exit code.
func ShellCode(s *os.ProcessState) int { return s.ExitCode() }
