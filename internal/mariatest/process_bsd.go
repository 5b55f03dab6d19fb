//go:build unix && !linux

package mariatest

import "syscall"

// dieWithParent does nothing: not every system can.
func dieWithParent(*syscall.SysProcAttr) {}
