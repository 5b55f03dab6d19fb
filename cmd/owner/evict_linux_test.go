package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/cmdtest"
)

// An owner that is stopped is killed when its lease has expired, and its COMMAND with it.
func TestKillHung(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	hung := startScript(t, lease, []string{"--ttl", "500ms"}, l, "echo ready; sleep 60 & wait")
	hung.Signal(syscall.SIGSTOP)
	next := start(t, "run", "--lease", lease, "--ttl", "5s", "--kill-hung", self(), "test-cat")
	if got := next.Line(); got != "started" {
		t.Fatalf("got %q; stderr: %s", got, &next.Stderr)
	}
	if _, code := hung.Wait(); code != 128+int(syscall.SIGKILL) {
		t.Errorf("the hung owner has ended with %d", code)
	}
	l.MustEnd(t)
	_ = next.Stdin.Close()
	if _, code := next.Wait(); code != 0 || next.Stderr.Len() > 0 {
		t.Errorf("exit %d; stderr: %s", code, &next.Stderr)
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
	hung.Signal(syscall.SIGSTOP)
	if _, stderr, code := ownerCommand(t, "run", "--lease", lease, "true"); code != 0 {
		t.Errorf("exit %d; %s", code, stderr)
	}
	hung.Signal(syscall.SIGCONT)
	if _, code := hung.Wait(); code != 122 || !strings.Contains(hung.Stderr.String(), "lost the lease") {
		t.Errorf("exit %d; %s", code, &hung.Stderr)
	}
	if st, err := owner.Probe(lease); err != nil || st.Condition != owner.Released {
		t.Errorf("afterwards: %v, %v", st.Condition, err)
	}
}
