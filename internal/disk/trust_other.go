//go:build !(linux || darwin || freebsd || windows)

package disk

import "os"

// untrusted knows no file system here; that two handles exclude each other is
// still tried out.
func untrusted(dir string) (string, error) {
	_, err := os.Stat(dir)
	return "", err
}
