//go:build unix

package run

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CheckFiles returns an error if this process cannot open this many more files. Without
// the first few, the Go runtime itself crashes with a page of goroutines.
func CheckFiles(needed int) error {
	var opened []int
	defer func() {
		for _, fd := range opened {
			_ = unix.Close(fd)
		}
	}()
	for len(opened) < needed {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.EMFILE || err == unix.ENFILE {
			return fmt.Errorf("this program needs %d more open files than it has, and can open only %d: %w (see: ulimit -n)", needed, len(opened), err)
		}
		if err != nil {
			return nil // it is about the number only
		}
		opened = append(opened, fd)
	}
	return nil
}
