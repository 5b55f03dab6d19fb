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

// Number tells the files of a file system apart. A copy of a file has another.
func Number(_ *os.File, info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
