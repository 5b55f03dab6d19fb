package pgtest

import (
	"errors"
	"fmt"
	"os/exec"
)

// An account is the user that the servers run as.
type account struct{}

func unprivileged() (*account, error) {
	return nil, fmt.Errorf("%w: on Windows, no Postgres is started", ErrMissing)
}

func (*account) give(string) error                           { return errors.ErrUnsupported }
func (*account) command(string, string, ...string) *exec.Cmd { return nil }
func stop(int) error                                         { return errors.ErrUnsupported }
func cont(int) error                                         { return errors.ErrUnsupported }
func kill(int) error                                         { return errors.ErrUnsupported }
func interrupt(int) error                                    { return errors.ErrUnsupported }
func childrenOf(int) []int                                   { return nil }
func gone(int) bool                                          { return true }
