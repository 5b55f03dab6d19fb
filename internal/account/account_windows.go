// Package account runs servers of tests as a user who is not root, which they refuse.
package account

import (
	"errors"
	"os/exec"
	"syscall"
)

// An Account is the user that servers run as.
type Account struct{}

// ForServer returns an error: on Windows, no servers are started.
func ForServer(string) (*Account, error) { return nil, errors.New("on Windows, no server is started") }

// Give does nothing here.
func (*Account) Give(string) error { return errors.ErrUnsupported }

// Command does nothing here.
func (*Account) Command(syscall.Signal, string, string, ...string) *exec.Cmd { return nil }
