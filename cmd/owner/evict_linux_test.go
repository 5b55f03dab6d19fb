package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/ownerlease/owner"
)

// An owner that is stopped is killed when its lease has expired, and its COMMAND with it.
func TestKillHung(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	hung := startScript(t, lease, []string{"--ttl", "500ms"}, l, "echo ready; sleep 60 & wait")
	hung.signal(syscall.SIGSTOP)
	next := start(t, "run", "--lease", lease, "--ttl", "5s", "--kill-hung", self(), "test-cat")
	if got := next.line(); got != "started" {
		t.Fatalf("got %q; stderr: %s", got, &next.stderr)
	}
	if _, code := hung.wait(); code != 128+int(syscall.SIGKILL) {
		t.Errorf("the hung owner has ended with %d", code)
	}
	l.mustEnd(t)
	_ = next.stdin.Close()
	if _, code := next.wait(); code != 0 || next.stderr.Len() > 0 {
		t.Errorf("exit %d; stderr: %s", code, &next.stderr)
	}
}

// Without it, the owner that is stopped lives on; a live one is never killed.
func TestHungIsNotKilled(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	hung := hold(t, lease, "--ttl", "500ms")
	if _, _, code := ownerCommand(t, "run", "--lease", lease, "--kill-hung", "-w", "1s", "true"); code != 124 {
		t.Errorf("a live owner: exit %d", code)
	}
	hung.signal(syscall.SIGSTOP)
	if _, stderr, code := ownerCommand(t, "run", "--lease", lease, "true"); code != 0 {
		t.Errorf("exit %d; %s", code, stderr)
	}
	hung.signal(syscall.SIGCONT)
	if _, code := hung.wait(); code != 122 || !strings.Contains(hung.stderr.String(), "lost the lease") {
		t.Errorf("exit %d; %s", code, &hung.stderr)
	}
	if st, err := owner.Probe(lease); err != nil || st.Condition != owner.Released {
		t.Errorf("afterwards: %v, %v", st.Condition, err)
	}
}
