//go:build unix

// Package account runs servers of tests as a user who is not root, which they refuse.
package account

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// An Account is the user that servers run as.
type Account struct {
	uid, gid uint32
	other    bool // than this process's
}

// ForServer returns this user, or, for root, the first that there is of the user with this
// name, as Debian's package has made it, and the user nobody.
func ForServer(name string) (*Account, error) {
	if uid := os.Getuid(); uid != 0 {
		return &Account{uid: uint32(uid), gid: uint32(os.Getgid())}, nil
	}
	for _, name := range []string{name, "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		return &Account{uint32(uid), uint32(gid), true}, nil
	}
	return nil, fmt.Errorf("the server does not run as root, and there is no user %s or nobody", name)
}

// Give makes the user the owner of a folder, which others may enter.
func (a *Account) Give(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil || !a.other {
		return err
	}
	return os.Chown(dir, int(a.uid), int(a.gid))
}

// Command is a program as this user, in this folder. Where the system can have that, it
// gets the signal when this process has died, so that a test that is killed leaves no
// server.
func (a *Account) Command(end syscall.Signal, dir, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the test
	if a.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	endWithParent(cmd.SysProcAttr, end)
	return cmd
}
