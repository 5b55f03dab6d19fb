//go:build unix

package reach

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/privdir"
)

// Tests with real processes: the test binary starts itself as an owner, which journals
// what its handler begins with, and does to itself what the test has asked for.

const (
	childEnv = "REACH_TEST_CHILD" // the lease
	faultEnv = "REACH_TEST_FAULT" // "kill" or "stop", "before" or "after" the acknowledgement, or in the "handler"
	ttlEnv   = "REACH_TEST_TTL"
)

// journal is a handler that writes down what it begins with, before anything else.
func journal(lease string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		f, err := os.OpenFile(lease+".journal", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(f, id)
		f.Close()
		if os.Getenv(faultEnv) == "kill handler" {
			hit("kill")
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, id, " ", n)
	})
}

// hit does it to this process.
func hit(what string) {
	s := syscall.SIGKILL
	if what == "stop" {
		s = syscall.SIGSTOP
	}
	_ = syscall.Kill(os.Getpid(), s)
	if what == "kill" {
		select {}
	}
	time.Sleep(20 * time.Millisecond) // another thread may take the signal, a moment later
}

var faulted atomic.Bool

func runChild(lease string) int {
	if what, path, _ := strings.Cut(lease, "="); what == "start" || what == "bare" {
		return runStarted(what, path)
	} else if what == "dial" || what == "listen" {
		return runStranger(what, path)
	}
	ttl, err := time.ParseDuration(os.Getenv(ttlEnv))
	if err != nil {
		return 2
	}
	s := &Server{Handler: journal(lease), listenDefault: faultyListen}
	ready := s.listenDefault
	s.listenDefault = func(id string) (*listening, error) {
		fmt.Println("listening")
		return ready(id)
	}
	go func() { // a child ends with its parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	serve := func(ctx context.Context, o *owner.Owner) error {
		defer fmt.Println("served")
		return s.Serve(ctx, o)
	}
	if err := owner.Run(context.Background(), owner.Config{LeasePath: lease, TTL: ttl}, serve); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// faultyListen listens such that the fault strikes beside the write of the first
// acknowledgement.
func faultyListen(id string) (*listening, error) {
	listen := listenDefault
	if os.Getenv("REACH_TEST_TCP") != "" {
		listen = tcp
	}
	ln, err := listen(id)
	if err == nil {
		what, when, _ := strings.Cut(os.Getenv(faultEnv), " ")
		ln.Listener = faultyListener{ln.Listener, what, when}
	}
	return ln, err
}

type faultyListener struct {
	net.Listener
	what, when string
}

func (l faultyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &faultyConn{c, l}, err
}

type faultyConn struct {
	net.Conn
	fault faultyListener
}

func (c *faultyConn) Write(p []byte) (int, error) {
	if !bytes.Contains(p, []byte(headerAccepted)) || faulted.Swap(true) {
		return c.Conn.Write(p)
	}
	if c.fault.when == "before" {
		hit(c.fault.what)
	}
	n, err := c.Conn.Write(p)
	if c.fault.when == "after" {
		hit(c.fault.what)
	}
	return n, err
}

type child struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
}

// says waits for a line of the child.
func (c *child) says(want string) {
	c.t.Helper()
	if line, err := c.out.ReadString('\n'); err != nil || line != want+"\n" {
		c.t.Fatalf("%q, %v; want %q", line, err, want)
	}
}

func startChild(t *testing.T, lease, fault string, ttl time.Duration, env ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), env...), childEnv+"="+lease, faultEnv+"="+fault, ttlEnv+"="+ttl.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	c := &child{t, cmd, bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = in.Close()
		c.kill()
	})
	c.says("listening")
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// stopped waits until the process has stopped.
func (c *child) stopped() {
	c.t.Helper()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		c.t.Fatalf("not stopped: %v, %v", status, err)
	}
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	must(c.t, c.cmd.Process.Signal(s))
}

// standby takes over in this process, with the same journal.
func standby(t *testing.T, lease string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = owner.Run(ctx, owner.Config{LeasePath: lease, TTL: time.Minute}, (&Server{Handler: journal(lease)}).Serve)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// began counts how often handlers have begun with the request.
func began(t *testing.T, lease, id string) (n int) {
	t.Helper()
	b, err := os.ReadFile(lease + ".journal")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line == id+"\n" {
			n++
		}
	}
	return n
}

func pathClient(t *testing.T, lease string) *Client {
	t.Helper()
	return newClient(t, nil, func(c *Client) { c.LeasePath = lease })
}

// The table of outcomes, with processes that are killed at a point of the protocol.
func TestKilled(t *testing.T) {
	for _, x := range []struct {
		fault, method, key string
		unknown            bool
		began              int
	}{
		{"kill before", "POST", "", false, 1},
		{"kill before", "GET", "", false, 1},
		{"kill after", "POST", "", true, 0}, // acknowledged, and killed before the handler
		{"kill after", "GET", "", false, 1},
		{"kill after", "POST", "k", false, 1},
		{"kill handler", "POST", "", true, 1},
		{"kill handler", "GET", "", false, 2},
		{"kill handler", "POST", "k", false, 2},
	} {
		for _, env := range []string{"", "REACH_TEST_TCP=1"} {
			for _, size := range []int{0, 2 << 20} {
				if x.method == "GET" && size > 0 {
					continue
				}
				t.Run(fmt.Sprintln(x.fault, x.method, x.key, env, size), func(t *testing.T) {
					lease := leasePath(t)
					startChild(t, lease, x.fault, time.Minute, env)
					standby(t, lease)
					r := request(t, x.method, "/?id=1", strings.NewReader(strings.Repeat("x", size)))
					if x.key != "" {
						r.Header.Set(headerKey, x.key)
					}
					resp, err := pathClient(t, lease).RoundTrip(r)
					if err == nil {
						if got := text(t, resp, nil); got != fmt.Sprint("1 ", size) {
							t.Error(got)
						}
					}
					if errors.Is(err, ErrOutcomeUnknown) != x.unknown || !x.unknown && err != nil {
						t.Error(err)
					}
					if n := began(t, lease, "1"); n != x.began {
						t.Errorf("begun %d times", n)
					}
				})
			}
		}
	}
}

// A stopped owner: on a Unix socket of Linux, what it has not acknowledged is revoked and
// sent to the next; when it goes on, it finds that out before its handler runs.
func TestStopped(t *testing.T) {
	for _, fault := range []string{"stop before", "stop"} { // between the check and the acknowledgement, or before all
		t.Run(fault, func(t *testing.T) {
			lease := leasePath(t)
			c := startChild(t, lease, fault, 300*time.Millisecond)
			client := pathClient(t, lease)
			if fault == "stop" {
				conn, _, err := client.Dial(t.Context()) // it listens
				must(t, err)
				conn.Close()
				c.signal(syscall.SIGSTOP)
				c.stopped()
			}
			answer := askLater(t, client, "POST", "/?id=1", "")
			if fault == "stop before" {
				c.stopped()
			}
			standby(t, lease)
			got := <-answer
			c.signal(syscall.SIGCONT)
			if closeReadIsExact && got != "1 0" || !closeReadIsExact && !strings.Contains(got, ErrOutcomeUnknown.Error()) {
				t.Error(got)
			}
			c.says("served") // when no handler is left
			if n := began(t, lease, "1"); n > 1 || closeReadIsExact && n != 1 {
				t.Errorf("begun %d times", n)
			}
		})
	}
}

// The same by TCP: the outcome is unknown, and said to be.
func TestStoppedTCP(t *testing.T) {
	lease := leasePath(t)
	c := startChild(t, lease, "stop before", 300*time.Millisecond, "REACH_TEST_TCP=1")
	answer := askLater(t, pathClient(t, lease), "POST", "/?id=1", "")
	c.stopped()
	standby(t, lease)
	stopped := time.Now()
	if got := <-answer; !strings.Contains(got, ErrOutcomeUnknown.Error()) || time.Since(stopped) > 10*time.Second {
		t.Errorf("%s, after %v", got, time.Since(stopped))
	}
	c.signal(syscall.SIGCONT) // it can write the acknowledgement, but does not own any more
	c.says("served")          // when no handler is left
	if n := began(t, lease, "1"); n != 0 {
		t.Errorf("begun %d times", n)
	}
}

// A stop that ends in time is a pause.
func TestPaused(t *testing.T) {
	lease := leasePath(t)
	c := startChild(t, lease, "stop before", time.Minute)
	answer := askLater(t, pathClient(t, lease), "POST", "/?id=1", "")
	c.stopped()
	c.signal(syscall.SIGCONT)
	if got := <-answer; got != "1 0" {
		t.Error(got)
	}
}

// The context of a request to a stopped owner ends: it is revoked, and known not to run.
func TestRevokedByContext(t *testing.T) {
	if !closeReadIsExact {
		t.Skip("this system cannot close one side of a socket without losing what has arrived")
	}
	lease := leasePath(t)
	c := startChild(t, lease, "stop before", time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	client := pathClient(t, lease)
	r := request(t, "POST", "/?id=1", strings.NewReader(strings.Repeat("x", 2<<20))).WithContext(ctx)
	go func() {
		_, err := client.RoundTrip(r)
		failed <- err
	}()
	c.stopped()
	cancel()
	if err := <-failed; !errors.Is(err, ErrNoOwner) || !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
	c.signal(syscall.SIGCONT)
	if got := ask(t, client, "POST", "/?id=2", ""); got != "2 0" { // it serves the next
		t.Error(got)
	}
	if n := began(t, lease, "1"); n != 0 {
		t.Errorf("begun %d times", n)
	}
}

// Sockets of killed owners are removed by a later one, when they are not new any more.
func TestDeadSocketsAreRemoved(t *testing.T) {
	lease := leasePath(t)
	c := startChild(t, lease, "", time.Minute)
	conn, rec, err := pathClient(t, lease).Dial(t.Context())
	must(t, err)
	conn.Close()
	c.kill()
	at, err := parseEndpoint(rec.Meta[owner.EndpointMetaKey])
	must(t, err)
	dir := filepath.Dir(at.addr)
	privdir.RemoveDead(dir, "")
	if _, err := os.Lstat(at.addr); err != nil {
		t.Error("a socket was removed that may be new:", err)
	}
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(at.addr, old, old))
	privdir.RemoveDead(dir, "")
	if _, err := os.Lstat(at.addr); !os.IsNotExist(err) {
		t.Error(err)
	}
}
