//go:build unix && !linux

package account

import "syscall"

// endWithParent does nothing: not every system can.
func endWithParent(*syscall.SysProcAttr, syscall.Signal) {}
