package disk

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// OpenFlags is to be added to the flags of every opening of a file that others
// may have put there. Windows has no FIFOs among files, and needs a privilege to
// make a link.
const OpenFlags = 0

// open opens through a Root, which shares deletion with other handles: without
// it, nobody could replace the file while this handle is open.
func open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &NotRegularError{Path: path, Mode: info.Mode()}
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(filepath.Base(path), flag, perm)
}

// Replace renames a file over another, which others may hold open: a Root's
// Rename has POSIX semantics where Windows has them (10 and later, on NTFS).
func Replace(from, to string) error {
	root, err := os.OpenRoot(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.Rename(filepath.Base(from), filepath.Base(to))
}

// ID tells the files of this machine apart.
type ID struct{ info fs.FileInfo }

// Identify returns the ID of an open file.
func Identify(info fs.FileInfo) ID { return ID{info} }

// LeadsTo reports whether the path leads to the file, not following a link in
// its place.
func LeadsTo(path string, id ID) (bool, error) {
	info, err := os.Lstat(path)
	return err == nil && os.SameFile(info, id.info), err
}

// Number tells the files of a file system apart. A copy of a file has another.
func Number(f *os.File, _ fs.FileInfo) uint64 {
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info); err != nil {
		return 0
	}
	return uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)
}
