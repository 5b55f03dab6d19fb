//go:build unix

package sdnotify

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestTake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	me := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		socket, usec, pid string
		watchdog          time.Duration
		ok, told          bool
	}{
		{path, "", "", 0, true, true},
		{path, "2000000", "", 2 * time.Second, true, true},
		{path, "2000000", me, 2 * time.Second, true, true},
		{path, "2000000", "1", 0, true, true},
		{"", "2000000", me, 0, true, false},
		{path, "soon", me, 0, false, false},
		{path, "-1", me, 0, false, false},
		{path, "0", me, 0, false, false},
		{path, "9223372036854775807", me, 0, false, false},
		{"relative", "", "", 0, false, false},
		{"@", "", "", 0, false, false},
		{"vsock:2:1", "", "", 0, false, false},
		{path + "-missing", "", "", 0, false, false},
	} {
		t.Setenv(SocketEnv, c.socket)
		t.Setenv(usecEnv, c.usec)
		t.Setenv(pidEnv, c.pid)
		m, err := Take()
		if (err == nil) != c.ok || (m != nil) != c.told || m.Watchdog() != c.watchdog {
			t.Errorf("%+v: %v, %v, %v", c, m, m.Watchdog(), err)
		}
		for _, name := range []string{SocketEnv, usecEnv, pidEnv} {
			if v, ok := os.LookupEnv(name); ok {
				t.Errorf("%+v: %s is still %q", c, name, v)
			}
		}
		m.Tell(Ready, Status("up"))
		m.Close()
		if !c.told {
			continue
		}
		b := make([]byte, 100)
		_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1\nSTATUS=up" {
			t.Errorf("%q, %v", b[:n], err)
		}
	}
	if m, err := Take(); m != nil || err != nil {
		t.Errorf("without a manager: %v, %v", m, err)
	}
}

// A manager that does not read does not keep its service waiting.
func TestTellDoesNotWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv(SocketEnv, path)
	m, err := Take()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	full := false
	for range 10_000 {
		began := time.Now()
		m.Tell(Alive)
		if full = time.Since(began) >= patience; full {
			break
		}
	}
	if !full {
		t.Skip("the queue of this system's sockets has no end")
	}
}
