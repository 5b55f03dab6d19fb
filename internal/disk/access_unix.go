//go:build unix

package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func accessOf(info fs.FileInfo) Access {
	a := Access{info.Mode() & (fs.ModePerm | fs.ModeSticky), -1, -1}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID = int(st.Uid), int(st.Gid)
	}
	return a
}

func (osSystem) Access(path string) (Access, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Plain, err
	}
	return accessOf(info), nil
}

// Allow changes the open file, which its path may no longer lead to. The user and the
// group come first: with another user, only root can change the permissions. User and
// group stay as they are where the system does not let this process change them, as for a
// group that the user is not in.
func (f *osFile) Allow(a Access, names int) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Nlink) > names {
		return &fs.PathError{Op: "chmod", Path: f.Name(), Err: errOtherNames}
	}
	is := accessOf(info)
	if a.UID >= 0 && a.UID != is.UID || a.GID >= 0 && a.GID != is.GID {
		_ = f.Chown(a.UID, a.GID)
	}
	if a.Perm == is.Perm {
		return nil
	}
	return f.Chmod(a.Perm)
}

// errOtherNames: a link to any user's file may have been put in the place of the new one.
var errOtherNames = errors.New("it has other names, and may be another file than the one that was made here")
