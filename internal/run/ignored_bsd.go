//go:build unix && !linux

package run

import "syscall"

// inheritedIgnored: but for HUP and INT, the Go runtime does not tell here.
func inheritedIgnored() []syscall.Signal { return nil }
