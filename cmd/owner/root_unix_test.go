//go:build unix

package main

import (
	"errors"
	"syscall"
)

// becomeRoot drops the ids of the user that has started a setuid program.
func becomeRoot() error { return errors.Join(syscall.Setgid(0), syscall.Setreuid(0, 0)) }
