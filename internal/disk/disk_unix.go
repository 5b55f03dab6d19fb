//go:build unix

package disk

import (
	"io/fs"
	"os"
	"syscall"
)

// openFlags is to be added to the flags of every opening of a file that others
// may have put there.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(path, flag|openFlags, perm)
}

func replace(from, to string) error { return os.Rename(from, to) }

// A fileID identifies a file on this machine.
type fileID struct{ dev, ino uint64 }

func identify(_ *os.File, info fs.FileInfo) fileID {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fileID{uint64(st.Dev), uint64(st.Ino)}
	}
	return fileID{}
}

// leadsTo allocates nothing: every renewal calls it.
func leadsTo(path string, id fileID) (same bool, size int64, err error) {
	var st syscall.Stat_t
	for {
		switch err := syscall.Lstat(path, &st); err {
		case nil:
			return fileID{uint64(st.Dev), uint64(st.Ino)} == id, st.Size, nil
		case syscall.EINTR:
		default:
			return false, 0, &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
	}
}

func (id fileID) number() uint64 { return id.ino }
