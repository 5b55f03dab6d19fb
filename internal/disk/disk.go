// Package disk is what the lease file needs of the operating system's files:
// opening without following links or waiting, replacing a file that others hold
// open, distinguishing files, and detecting unsuitable file systems.
package disk

import (
	"fmt"
	"io/fs"
	"os"
)

// A NotRegularError reports something other than a regular file in the lease's place.
type NotRegularError struct {
	Path string
	Mode fs.FileMode
}

func (e *NotRegularError) Error() string {
	return fmt.Sprintf("%s is %s, not a regular file", e.Path, kind(e.Mode))
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}

// explain replaces the kernel's error for opening a link or a folder by one that
// says so.
func explain(path string, err error) error {
	if info, serr := os.Lstat(path); serr == nil && !info.Mode().IsRegular() {
		return &NotRegularError{Path: path, Mode: info.Mode()}
	}
	return err
}
