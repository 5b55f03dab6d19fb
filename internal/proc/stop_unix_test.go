//go:build unix

package proc

import (
	"os"
	"syscall"
	"testing"
)

// stop stops a process: it can be ended all the same.
func stop(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}
