package run

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// executable is this very program, also when its file has been replaced while
// it waited.
func executable() (string, error) { return "/proc/self/exe", nil }

// dieWithParent has the kernel kill the command together with this process.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// adoptOrphans makes this process the parent of what the command leaves behind.
// In a container, process 1 is often a program that reaps nobody.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }
