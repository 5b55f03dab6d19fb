//go:build !(linux || darwin || freebsd || windows)

package disk

import (
	"os"
	"runtime"
)

// untrusted knows no file system here; that two handles exclude each other is
// still tried out. Where there is no flock, no file system will do: fcntl's locks
// belong to a process, and go when it closes any descriptor of the file.
func untrusted(dir string) (string, error) {
	switch runtime.GOOS {
	case "solaris", "aix":
		return runtime.GOOS + ", which has no flock", nil
	}
	_, err := os.Stat(dir)
	return "", err
}
