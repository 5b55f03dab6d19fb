//go:build !unix && !windows

package disk

import (
	"io/fs"
	"os"
)

// OpenFlags is to be added to the flags of every opening of a file that others
// may have put there.
const OpenFlags = 0

func open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(path, flag, perm)
}

// Replace renames a file over another.
func Replace(from, to string) error { return os.Rename(from, to) }

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

// Number cannot tell files apart here.
func Number(*os.File, fs.FileInfo) uint64 { return 0 }
