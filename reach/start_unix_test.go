//go:build unix

package reach

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/start"
)

const idleEnv = "REACH_TEST_IDLE"

// runStarted is what Start starts: a server that answers with its pid. A bare one is a
// server on the socket at path, without a lease.
func runStarted(what, path string) int {
	time.AfterFunc(10*time.Minute, func() { os.Exit(99) }) // none outlives the tests for long
	pid := strconv.Itoa(os.Getpid())
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if what == "start" {
			note(path, pid)
		}
		_, _ = io.WriteString(w, pid)
	})
	if what == "bare" {
		ln, err := net.Listen("unix", path)
		if err != nil {
			return 1
		}
		_ = http.Serve(ln, h)
		return 1
	}
	idle, _ := time.ParseDuration(os.Getenv(idleEnv))
	s := &Server{Handler: h, Idle: idle}
	if err := owner.Run(context.Background(), owner.Config{LeasePath: path, TTL: time.Minute}, s.Serve); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// note is written by a server for each request, before it is answered.
func note(lease, what string) {
	f, err := os.OpenFile(lease+".handled", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, what)
}

// startCommand starts this test's binary as a server.
func startCommand(lease string, idle time.Duration) *start.Command {
	return &start.Command{
		Path: os.Args[0], Log: lease + ".log", Timeout: 20 * time.Second,
		Env: append(os.Environ(), childEnv+"=start="+lease, idleEnv+"="+idle.String(), "GORACE=atexit_sleep_ms=0"),
	}
}

// startClient is a Client that starts servers, which end with the test.
func startClient(t testing.TB, lease string, idle time.Duration) *Client {
	t.Helper()
	t.Cleanup(func() {
		if st, err := owner.Probe(lease); err == nil && st.Owned() {
			_ = syscall.Kill(st.Record.PID, syscall.SIGKILL)
		}
	})
	return newClient(t, nil, func(c *Client) { c.LeasePath, c.Start = lease, startCommand(lease, idle) })
}

// The real thing: many Clients at once, and one process.
func TestStartProcess(t *testing.T) {
	lease := leasePath(t)
	answers := make([]<-chan string, 100)
	for i := range answers {
		answers[i] = askLater(t, startClient(t, lease, 0), "POST", "/", "")
	}
	first := <-answers[0]
	for _, a := range answers[1:] {
		if got := <-a; got != first {
			t.Errorf("%s and %s", first, got)
		}
	}
}

// As TestIdleExits, with processes.
func TestIdleExitsOfProcesses(t *testing.T) {
	const idle = 20 * time.Millisecond
	lease := leasePath(t)
	n := arrive(t, startClient(t, lease, idle), idle, *idleExits/10)
	b, err := os.ReadFile(lease + ".handled")
	must(t, err)
	if handled := bytes.Count(b, []byte("\n")); handled != n.requests {
		t.Errorf("%d requests, handled %d times", n.requests, handled)
	}
	t.Logf("%d processes stepped down under %d requests, %d of them sent within a millisecond of that moment", n.exits, n.requests, n.near)
}

// From nothing to the first byte of an answer, and the floor: a server without a lease,
// which is started and asked until it answers. The pair belongs to one run:
//
//	go test -run '^$' -bench Start -benchtime 200x ./reach
func BenchmarkStart(b *testing.B) {
	dir, err := os.MkdirTemp("", "b")
	must(b, err)
	defer os.RemoveAll(dir)
	b.Run("bare", func(b *testing.B) {
		i := 0
		percentiles(b, func() func() {
			i++
			return bare(b, filepath.Join(dir, strconv.Itoa(i)))
		})
	})
	b.Run("reach", func(b *testing.B) {
		i := 0
		percentiles(b, func() func() {
			i++
			lease := filepath.Join(dir, "lease"+strconv.Itoa(i))
			c := &Client{LeasePath: lease, Start: startCommand(lease, 0)}
			resp, err := c.RoundTrip(request(b, "POST", "/", nil))
			pid := text(b, resp, err)
			return func() {
				must(b, c.Close())
				end(b, pid)
			}
		})
	})
}

// percentiles measures what once does, without what it returns.
func percentiles(b *testing.B, once func() (after func())) {
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		after := once()
		took = append(took, time.Since(began))
		b.StopTimer()
		after()
		b.StartTimer()
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
}

func bare(b *testing.B, socket string) func() {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=bare="+socket)
	must(b, cmd.Start())
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			c, err := net.Dial("unix", socket)
			if err == nil {
				return c, nil
			}
			time.Sleep(100 * time.Microsecond)
		}
	}}
	resp, err := tr.RoundTrip(request(b, "POST", "/", nil))
	_ = text(b, resp, err)
	return func() {
		tr.CloseIdleConnections()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func end(b *testing.B, pid string) {
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	must(b, err)
	_ = syscall.Kill(n, syscall.SIGKILL)
	var ws syscall.WaitStatus
	_, _ = syscall.Wait4(n, &ws, 0, nil) // it is this process's child
}
