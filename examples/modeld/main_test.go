package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test's binary is the program, when it is started as one.
func TestMain(m *testing.M) {
	if lease := os.Getenv("MODELD_LEASE"); lease != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := run(ctx, lease, os.Getenv("MODELD_LISTEN"), 0); err != nil && !errors.Is(err, context.Canceled) {
			log.Fatal(err)
		}
		return
	}
	os.Exit(m.Run())
}

// start starts a copy that listens on a Unix socket, and returns when it does.
func start(t *testing.T, lease, socket string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MODELD_LEASE="+lease, "MODELD_LISTEN="+socket)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// at is a client of the copy at a socket.
func at(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// add adds one, and returns the sum and who has added it.
func add(t *testing.T, c *http.Client) (sum, pid int) {
	t.Helper()
	resp, err := c.Post("http://modeld/add", "text/plain", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if _, serr := fmt.Sscanf(string(b), "%d from process %d", &sum, &pid); serr != nil || err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %q, %v", resp.Status, b, err)
	}
	return sum, pid
}

// Three copies: whichever is asked, one counts, and nothing is lost or counted twice when it is
// killed, or told to end.
func TestModeld(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the copies of the test listen on Unix sockets, and are ended by signals")
	}
	dir, err := os.MkdirTemp("", "m") // short, as a socket's path must be
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	lease := filepath.Join(dir, "lease")
	copies := map[int]*exec.Cmd{}
	var clients []*http.Client
	sockets := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")}
	for _, socket := range sockets {
		cmd := start(t, lease, socket)
		copies[cmd.Process.Pid] = cmd
		clients = append(clients, at(socket))
	}
	want, owner := 0, 0
	for _, c := range clients {
		for range 10 {
			want++
			sum, pid := add(t, c)
			if sum != want || owner != 0 && pid != owner {
				t.Fatalf("%d from process %d, after %d from process %d", sum, pid, want-1, owner)
			}
			owner = pid
		}
	}
	for _, end := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		if err := copies[owner].Process.Signal(end); err != nil {
			t.Fatal(err)
		}
		_ = copies[owner].Wait() // it may answer until it has heard the signal
		delete(copies, owner)
		for i, c := range clients {
			if !alive(copies, sockets[i]) {
				continue
			}
			want++
			sum, pid := add(t, c)
			if sum != want || copies[pid] == nil {
				t.Fatalf("after %v: %d from process %d, want %d", end, sum, pid, want)
			}
			owner = pid
		}
	}
}

// alive reports whether the copy at a socket has not been ended.
func alive(copies map[int]*exec.Cmd, socket string) bool {
	for _, cmd := range copies {
		for _, env := range cmd.Env {
			if env == "MODELD_LISTEN="+socket {
				return true
			}
		}
	}
	return false
}

// What the doc comment shows.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("there is no curl: apt-get install curl")
	}
	dir, err := os.MkdirTemp("", "m")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	start(t, filepath.Join(dir, "lease"), socket)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, curl, "-sS", "--unix-socket", socket, "-d", "1", "http://modeld/add").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "1 from process ") {
		t.Errorf("%s, %v", out, err)
	}
}
