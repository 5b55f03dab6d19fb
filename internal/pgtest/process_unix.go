//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// An account is the user that the servers run as: Postgres refuses root.
type account struct {
	uid, gid uint32
	other    bool // than this process's
}

// unprivileged returns this user, or, for root, the one that Debian's package has made, or
// nobody.
func unprivileged() (*account, error) {
	if uid := os.Getuid(); uid != 0 {
		return &account{uid: uint32(uid), gid: uint32(os.Getgid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		return &account{uint32(uid), uint32(gid), true}, nil
	}
	return nil, fmt.Errorf("%w: Postgres does not run as root, and there is no user postgres or nobody", ErrMissing)
}

// give makes the user the owner of a folder, which others may enter.
func (a *account) give(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil || !a.other {
		return err
	}
	return os.Chown(dir, int(a.uid), int(a.gid))
}

// command is a program as this user, in this folder, which ends with this process where
// the system can have that.
func (a *account) command(dir, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the test
	if a.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}

func stop(pid int) error      { return syscall.Kill(pid, syscall.SIGSTOP) }
func cont(pid int) error      { return syscall.Kill(pid, syscall.SIGCONT) }
func kill(pid int) error      { return syscall.Kill(pid, syscall.SIGKILL) }
func interrupt(pid int) error { return syscall.Kill(pid, syscall.SIGINT) }
