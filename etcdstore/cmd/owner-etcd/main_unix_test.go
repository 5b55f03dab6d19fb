//go:build unix

package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/cmdtest"
)

// runStubborn starts a program whose COMMAND is the stubborn script.
func runStubborn(t *testing.T, cmd *exec.Cmd, l *cmdtest.Life) *process {
	t.Helper()
	p := start(t, cmd)
	if got := p.Line(); got != "ready" {
		t.Fatalf("got %q", got)
	}
	l.Watch(t)
	return p
}

func TestSignals(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	watching := start(t, s.command("watch", "/k"))
	watching.mustSay("it has no owner")
	watching.Signal(syscall.SIGINT)
	watching.MustExit(128+int(syscall.SIGINT), "")

	holder := s.hold("/k")
	holder.Signal(syscall.SIGTERM) // its COMMAND has no handler for it
	holder.MustExit(128+int(syscall.SIGTERM), "")
	s.status("/k", "none", 3)
}

// COMMAND ends with a killed owner. Another owns within the TTL and a second.
func TestKillNine(t *testing.T) {
	t.Parallel()
	s, l := startServer(t), cmdtest.NewLife(t)
	first := runStubborn(t, s.command("run", "/k", l.Script(cmdtest.Stubborn)...), l)
	second := start(t, s.command("run", "/k", append([]string{"-q", "--"}, self("test-cat")...)...))
	killed := time.Now()
	first.Signal(syscall.SIGKILL)
	l.MustEnd(t)
	if got := second.Line(); got != "started" {
		t.Errorf("got %q", got)
	}
	acquired, err := time.Parse(time.RFC3339Nano, s.status("/k", "live", 0)["acquired_at"].(string))
	if took := acquired.Sub(killed); err != nil || took > ttl+time.Second {
		t.Errorf("another owns after %v; %v", took, err)
	}
	_ = second.Stdin.Close()
	second.MustExit(0, "")
}

// A lost lease ends COMMAND, all of it, before the lease could have expired.
func TestLossEndsCommandInTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose func(t *testing.T, s server)
		says string
	}{
		"deleted": {func(t *testing.T, s server) {
			if _, err := s.Client(t).Delete(t.Context(), "/k"); err != nil {
				t.Fatal(err)
			}
		}, "lease revoked"},
		"etcd stops": {func(_ *testing.T, s server) { s.Stop() }, "lease not renewed in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := startServer(t), cmdtest.NewLife(t)
			p := runStubborn(t, s.command("run", "/k", l.Script(cmdtest.Stubborn)...), l)
			c.lose(t, s)
			lost := time.Now()
			l.MustEnd(t)
			// The last renewal that counted was before the loss.
			if took := time.Since(lost); took > ttl {
				t.Errorf("COMMAND ran for %v after the loss; the lease lasted for %v at most", took, ttl)
			}
			p.MustExit(122, "owner-etcd: lost the lease, and ended COMMAND: "+c.says)
		})
	}
}

// A lease that moves is owned together with the one that it moves to. Whichever is
// lost, COMMAND ends in time.
func TestOneWithinTheOther(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"/outer", "/inner"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			s, l := startServer(t), cmdtest.NewLife(t)
			inner := self(s.args("run", "/inner", l.Script(cmdtest.Stubborn)...)...)
			p := runStubborn(t, s.command("run", "/outer", inner...), l)
			if _, err := s.Client(t).Delete(t.Context(), lost); err != nil {
				t.Fatal(err)
			}
			deleted := time.Now()
			l.MustEnd(t)
			if took := time.Since(deleted); took > ttl {
				t.Errorf("COMMAND ran for %v after the loss; the lease lasted for %v at most", took, ttl)
			}
			p.MustExit(122, "lost the lease, and ended COMMAND: lease revoked")
		})
	}
}

// COMMAND ends while its owner is stopped, and before another starts.
func TestStoppedForTooLong(t *testing.T) {
	t.Parallel()
	s, l := startServer(t), cmdtest.NewLife(t)
	p := runStubborn(t, s.command("run", "/k", l.Script(cmdtest.Stubborn)...), l)
	p.Signal(syscall.SIGSTOP)
	_, stderr, code := cmdtest.ToItsEnd(t, s.command("run", "/k", "true"))
	if code != 0 || !l.Ended(t) {
		t.Errorf("exit %d, %q; COMMAND has ended: %v", code, stderr, l.Ended(t))
	}
	p.Signal(syscall.SIGCONT)
	p.MustExit(122, "owner-etcd: lost the lease, and ended COMMAND: ")
}

// No test can suspend the machine. But where the clock that counts suspends is ahead of
// the other, a use of the wrong one is detected.
func TestStoppedWhereTheMachineHasSlept(t *testing.T) {
	t.Parallel()
	slept := []string{"unshare", "--time", "--boottime", "3600000", "--fork", "--kill-child"}
	if runtime.GOOS != "linux" || exec.Command(slept[0], append(slept[1:], "true")...).Run() != nil {
		t.Skip("no time namespace can be made here")
	}
	s, l := startServer(t), cmdtest.NewLife(t)
	// The shell's parent is the warden, and the warden's is the owner; the test's child
	// is unshare, which comes before it.
	script := append([]string{"sh", "-c", `ps -o ppid= -p $PPID; exec "$0" "$@"`}, l.Script(cmdtest.Stubborn)...)
	args := append(slept[1:], self(s.args("run", "/k", script...)...)...)
	p := start(t, cmdtest.Prepare(exec.Command(slept[0], args...)))
	var pid int
	if _, err := fmt.Sscan(p.Line(), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	if got := p.Line(); got != "ready" {
		t.Fatalf("got %q", got)
	}
	l.Watch(t)
	l.MustEnd(t)
	if took := time.Since(stopped); took < ttl/4 || took > ttl {
		t.Errorf("COMMAND has ended after %v; the lease lasted for %v at most", took, ttl)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.MustExit(122, "owner-etcd: lost the lease, and ended COMMAND: ")
}

// The owner cannot release while it is stopped: its lease expires, or the wait ends before.
func TestRevocationOfAHungOwner(t *testing.T) {
	t.Parallel()
	s, l := startServer(t), cmdtest.NewLife(t)
	p := runStubborn(t, s.command("run", "/k", append([]string{"--ttl", "5s"}, l.Script(cmdtest.Stubborn)...)...), l)
	p.Signal(syscall.SIGSTOP)
	out, stderr, code := cmdtest.ToItsEnd(t, s.command("revoke", "/k", "--wait", "500ms"))
	if code != 124 || !strings.HasPrefix(stderr, "owner-etcd: gave up after 500ms: ") {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	if out, stderr, code := cmdtest.ToItsEnd(t, s.command("revoke", "/k")); code != 0 || !strings.HasPrefix(out, "revoked: pid ") || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	s.status("/k", "none", 3)
	p.Signal(syscall.SIGCONT)
	p.MustExit(122, "lost the lease")
	l.MustEnd(t)
}
