//go:build unix

package disk

import (
	"io/fs"
	"os"
	"syscall"
)

// OpenFlags is to be added to the flags of every opening of a file that others
// may have put there.
const OpenFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(path, flag|OpenFlags, perm)
}

// Replace renames a file over another, which others may hold open.
func Replace(from, to string) error { return os.Rename(from, to) }

// ID tells the files of this machine apart.
type ID struct{ dev, ino uint64 }

// Identify returns the ID of an open file.
func Identify(_ *os.File, info fs.FileInfo) ID {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return ID{uint64(st.Dev), uint64(st.Ino)}
	}
	return ID{}
}

// LeadsTo reports whether the path leads to the file, not following a link in
// its place, and the size of what is there. It allocates nothing: every renewal
// asks.
func LeadsTo(path string, id ID) (same bool, size int64, err error) {
	var st syscall.Stat_t
	for {
		switch err := syscall.Lstat(path, &st); err {
		case nil:
			return ID{uint64(st.Dev), uint64(st.Ino)} == id, st.Size, nil
		case syscall.EINTR:
		default:
			return false, 0, &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
	}
}

// Number tells the files of a file system apart, for a record to carry: a copy
// of a file has another. 0 says nothing.
func Number(f *os.File, info fs.FileInfo) uint64 { return Identify(f, info).ino }
