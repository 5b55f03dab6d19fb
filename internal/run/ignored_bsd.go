//go:build unix && !linux

package run

import "syscall"

// inheritedIgnored: the Go runtime reports only HUP and INT here.
func inheritedIgnored() []syscall.Signal { return nil }
