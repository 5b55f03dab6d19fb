package owner

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// A real owner, stopped: its successor has killed it, and owns, soon after the expiry.
func TestEvictStoppedOwner(t *testing.T) {
	needsKill(t)
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 400ms", "owner")
	o := joinFile(t, p, func(c *Config) { c.TTL, c.Standby, c.Evict = 5*time.Second, true, KillHolder })
	c.stop()
	s, err := newFileStore(p)
	must(t, err)
	seen, err := s.read()
	must(t, err)
	expiry := seen.now + s.remaining(seen)
	<-o.Elected()
	late := clock.Now() - expiry
	t.Logf("elected %v after the expiry", late)
	if late < 0 {
		t.Error("before the expiry")
	}
	if state, err := c.cmd.Process.Wait(); err != nil || state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the owner: %v, %v", state, err)
	}
	must(t, o.Release())
	<-o.Done()
}

func TestKillHolderOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to start a process of another user: sudo go test -run TestKillHolderOfAnotherUser .")
	}
	needsKill(t)
	p := leasePath(t)
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	must(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	started := startedOf(t, cmd.Process.Pid)
	holdAs(t, p, func(h *diskHead) { h.PID, h.Started = cmd.Process.Pid, started })
	if err := KillHolder(t.Context(), awaitHung(t, p)); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("got %v", err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("killed: %v", err)
	}
}

func startedOf(t *testing.T, pid int) string {
	t.Helper()
	p, err := thisProcess.OpenProcess(pid)
	must(t, err)
	defer p.Close()
	s, err := p.Started()
	must(t, err)
	return s
}
