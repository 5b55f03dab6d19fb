package mariatest

import (
	"errors"
	"fmt"
	"os/exec"
)

// An account is the user that the server runs as.
type account struct{}

func unprivileged() (*account, error) {
	return nil, fmt.Errorf("%w: on Windows, no MariaDB is started", ErrMissing)
}

func (*account) give(string) error                           { return errors.ErrUnsupported }
func (*account) command(string, string, ...string) *exec.Cmd { return nil }
