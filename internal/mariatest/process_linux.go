package mariatest

import "syscall"

// dieWithParent has the kernel end the process when this one has died, so that a test that
// is killed leaves no server.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
