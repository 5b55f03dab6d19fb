//go:build unix && !linux

package run

import (
	"os"
	"syscall"
)

func executable() (string, error) { return os.Executable() }

// dieWithParent leaves it to the warden.
func dieWithParent(*syscall.SysProcAttr) {}

// adoptOrphans leaves them to process 1.
func adoptOrphans() {}
