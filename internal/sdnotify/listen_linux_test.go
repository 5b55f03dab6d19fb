package sdnotify

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A received is what note has got.
type received struct {
	pid int
	m   Message
}

func listens(t *testing.T) (*Listener, <-chan received) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", "")
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	got, ended := make(chan received, 16), make(chan struct{})
	go func() {
		defer close(ended)
		l.Receive(func(pid int, m Message) { got <- received{pid, m} })
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
		if _, err := os.Lstat(l.Path()); !os.IsNotExist(err) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return l, got
}

func dial(t *testing.T, l *Listener) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: l.Path(), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestReceive(t *testing.T) {
	l, got := listens(t)
	c := dial(t, l)
	// What is too long is left out, also if its beginning is a message.
	for _, s := range []string{"READY=1\n" + strings.Repeat("x", maxMessage), "READY=1\nX=" + strings.Repeat("x", maxMessage-10), "STATUS=last"} {
		if _, err := c.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-got; r.pid != os.Getpid() || !r.m.Ready || r.m.Status != nil {
		t.Errorf("%+v", r)
	}
	if r := <-got; r.m.Ready || r.m.Status == nil || *r.m.Status != "last" {
		t.Errorf("%+v", r)
	}
	info, err := os.Stat(strings.TrimSuffix(l.Path(), "/"+l.Path()[strings.LastIndex(l.Path(), "/")+1:]))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

// Files that come with a message are closed after it, which is what a barrier waits for;
// also more than are usual, and with a message that is left out.
func TestFilesAreClosed(t *testing.T) {
	l, got := listens(t)
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c)
	for _, text := range []string{"BARRIER=1", strings.Repeat("x", 2*maxMessage)} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fds := make([]int, mostFiles)
		for i := range fds {
			fds[i] = int(w.Fd())
		}
		if err := unix.Sendmsg(c, []byte(text), unix.UnixRights(fds...), &unix.SockaddrUnix{Name: l.Path()}, 0); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		_ = r.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := r.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a file is still open: %v", err)
		}
		_ = r.Close()
	}
	if r := <-got; r.m != (Message{}) || r.pid != os.Getpid() {
		t.Errorf("%+v", r)
	}
	if len(got) != 0 {
		t.Errorf("a message too many: %+v", <-got)
	}
}
