//go:build unix

package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/ownerlease/owner/internal/cmdtest"
)

func TestSignalEndsTheWatch(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := start(t, "watch", "--lease", leaseIn(t))
		p.Line()
		p.Signal(sig)
		p.MustExit(128+int(sig), "")
	}
}

// The owner cannot stop while it is stopped: the wait for that must end.
func TestRevocationOfAHungOwner(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	holder := startScript(t, lease, []string{"--ttl", "1m"}, l, "echo ready; read x")
	holder.Signal(syscall.SIGSTOP)
	out, stderr, code := ownerCommand(t, "revoke", "--lease", lease, "--wait", "50ms")
	if code != 124 || !strings.HasPrefix(out, "revoked: pid ") || stderr != "owner: gave up after 50ms: its owner may not have stopped yet\n" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	wantStatus(t, lease, "revoked", 0)
	holder.Signal(syscall.SIGCONT)
	holder.MustExit(122, "lease revoked")
}
