package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/cmdtest"
)

// startWaiting also returns the stderr of an owner that waits for the lease.
func startWaiting(t *testing.T, lease string, flags ...string) (*process, *bufio.Reader) {
	t.Helper()
	cmd := command(append(append([]string{"run", "--lease", lease}, flags...), self(), "test-exit", "0")...)
	r, w := io.Pipe()
	cmd.Stderr = w
	p := startCommand(t, cmd)
	t.Cleanup(func() { _ = w.Close() })
	return p, bufio.NewReader(r)
}

func TestWaitIsExplained(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--verbose"}} {
		lease := leaseIn(t)
		holder := hold(t, lease)
		p, stderr := startWaiting(t, lease, flags...)
		line, err := stderr.ReadString('\n')
		want := fmt.Sprintf("owner: waiting for %s, owned by pid %d on ", lease, holder.Cmd.Process.Pid)
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%v: got %q, %v; want %q", flags, line, err, want)
		}
		_ = holder.Stdin.Close()
		if flags != nil {
			want = "owner: owns " + lease + " after "
			if line, err = stderr.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
				t.Errorf("got %q, %v; want %q", line, err, want)
			}
		}
		if out, code := p.Wait(); code != 0 || out != "" {
			t.Errorf("exit %d, %q", code, out)
		}
	}
}

func TestQuietWaitIsNotExplained(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	hold(t, lease)
	if _, stderr, code := ownerCommand(t, "run", "--lease", lease, "-q", "-w", "1.3", self(), "test-exit", "0"); code != 124 || stderr != "" {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// Of two that wait, the one that does not win has to name the other.
func TestWaitNamesTheNextHolder(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	first := hold(t, lease)
	lines := make(chan string, 16)
	names := map[string]bool{} // the loser's output, without its own name
	for range 2 {
		r, w := io.Pipe()
		cmd := command("run", "--lease", lease, self(), "test-cat")
		cmd.Stderr = w
		p := startCommand(t, cmd)
		t.Cleanup(func() { _ = w.Close() })
		names[fmt.Sprintf("owner: waiting for %s, owned by pid %d on ", lease, p.Cmd.Process.Pid)] = true
		go func() {
			for s := bufio.NewScanner(r); s.Scan(); {
				lines <- s.Text()
			}
		}()
	}
	next := func() string {
		select {
		case line := <-lines:
			return line
		case <-time.After(cmdtest.Limit):
			t.Fatal("nothing was said")
			return ""
		}
	}
	for range 2 {
		if line := next(); !strings.Contains(line, fmt.Sprintf("owned by pid %d on ", first.Cmd.Process.Pid)) {
			t.Errorf("got %q", line)
		}
	}
	_ = first.Stdin.Close()
	line := next()
	if i := strings.Index(line, " on "); i < 0 || !names[line[:i+len(" on ")]] {
		t.Errorf("got %q, want one of %v", line, names)
	}
}
