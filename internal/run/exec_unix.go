//go:build unix

package run

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
)

// execvp calls start with the command as execvp(3) does: a text that the kernel
// does not know for a program is a script for /bin/sh.
func execvp(path string, args []string, start func(path string, args []string) (int, error)) (int, error) {
	pid, err := start(path, args)
	if !errors.Is(err, syscall.ENOEXEC) || !isText(path) {
		return pid, err
	}
	return start("/bin/sh", append([]string{"/bin/sh", path}, args[1:]...))
}

// isText distinguishes a script, as shells do, from a program of another machine or a
// damaged one: that has a zero byte near its beginning, or a known header.
func isText(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 128)
	n, err := io.ReadFull(f, head)
	if err != nil && n == 0 && err != io.EOF {
		return false
	}
	return !bytes.HasPrefix(head, []byte("\x7fELF")) && bytes.IndexByte(head[:n], 0) < 0
}
