//go:build unix

package cmdtest

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Life shows when all processes of a COMMAND have ended: they alone hold a named pipe
// open for writing, and the last one's end closes it. Zombies do not count.
type Life struct {
	Path string
	pipe *os.File // the end of the test's own, until COMMAND has begun
	in   *os.File
	dead chan struct{}
}

// NewLife makes the pipe.
func NewLife(t *testing.T) *Life {
	t.Helper()
	l := &Life{Path: filepath.Join(t.TempDir(), "life"), dead: make(chan struct{})}
	if err := unix.Mkfifo(l.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	// For writing, too, or the end would be seen before the beginning.
	pipe, err := os.OpenFile(l.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.pipe = pipe
	t.Cleanup(func() { _ = l.pipe.Close() })
	return l
}

// Stubborn is a script that cannot be ended but by KILL, with a child of the same kind.
const Stubborn = `trap "" TERM HUP INT; sleep 1000 & echo ready; wait`

// Script is a shell script that runs as long as its group.
func (l *Life) Script(s string) []string {
	return []string{"sh", "-c", "exec 9>" + l.Path + "; " + s}
}

// Watch begins to wait for the end. COMMAND must have begun.
func (l *Life) Watch(t *testing.T) {
	t.Helper()
	in, err := os.Open(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	l.in = in
	t.Cleanup(func() { _ = in.Close() })
	_ = l.pipe.Close()
	go func() {
		defer close(l.dead)
		_, _ = io.Copy(io.Discard, in)
	}()
}

// Ended asks the kernel, which knows before the goroutine that waits.
func (l *Life) Ended(t *testing.T) (over bool) {
	t.Helper()
	conn, err := l.in.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd)}}
			_, _ = unix.Poll(fds, 0)
			over = fds[0].Revents&unix.POLLHUP != 0
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return over
}

// MustEnd waits for the end.
func (l *Life) MustEnd(t *testing.T) {
	t.Helper()
	select {
	case <-l.dead:
	case <-time.After(Limit):
		t.Fatal("a process of COMMAND is still alive")
	}
}
