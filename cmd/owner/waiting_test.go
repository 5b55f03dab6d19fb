package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
)

// startWaiting also returns the stderr of an owner that waits for the lease.
func startWaiting(t *testing.T, lease string, flags ...string) (*process, *bufio.Reader) {
	t.Helper()
	cmd := command(append(append([]string{"run", "--lease", lease}, flags...), self(), "test-exit", "0")...)
	r, w := io.Pipe()
	p := startCommandTo(t, cmd, w)
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
		want := fmt.Sprintf("owner: waiting for %s, owned by pid %d on ", lease, holder.cmd.Process.Pid)
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%v: got %q, %v; want %q", flags, line, err, want)
		}
		_ = holder.stdin.Close()
		if flags != nil {
			want = "owner: owns " + lease + " after "
			if line, err = stderr.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
				t.Errorf("got %q, %v; want %q", line, err, want)
			}
		}
		if out, code := p.wait(); code != 0 || out != "" {
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
