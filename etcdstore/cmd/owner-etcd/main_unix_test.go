//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A life shows when all processes of a COMMAND have ended: they alone hold a named pipe
// open for writing, and the last one's end closes it.
type life struct {
	path string
	pipe *os.File // the end of the test's own, until COMMAND has begun
	in   *os.File
	dead chan struct{}
}

func newLife(t *testing.T) *life {
	t.Helper()
	l := &life{path: filepath.Join(t.TempDir(), "life"), dead: make(chan struct{})}
	if err := unix.Mkfifo(l.path, 0o600); err != nil {
		t.Fatal(err)
	}
	// For writing, too, or the end would be seen before the beginning.
	pipe, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.pipe = pipe
	t.Cleanup(func() { _ = l.pipe.Close() })
	return l
}

// stubborn is a script that cannot be ended but by KILL, with a child of the same
// kind.
func (l *life) stubborn() []string {
	return []string{"sh", "-c", "exec 9>" + l.path + `; trap "" TERM HUP INT; sleep 1000 & echo ready; wait`}
}

// run starts a program with the stubborn script as its COMMAND.
func (l *life) run(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := start(t, cmd)
	if got := p.line(); got != "ready" {
		t.Fatalf("got %q", got)
	}
	in, err := os.Open(l.path)
	if err != nil {
		t.Fatal(err)
	}
	l.in = in
	t.Cleanup(func() { _ = in.Close() })
	_ = l.pipe.Close()
	go func() {
		defer close(l.dead)
		_, _ = io.Copy(io.Discard, in)
	}()
	return p
}

// ended asks the kernel, which knows before the goroutine that waits.
func (l *life) ended(t *testing.T) (over bool) {
	t.Helper()
	conn, err := l.in.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd)}}
			_, _ = unix.Poll(fds, 0)
			over = fds[0].Revents&unix.POLLHUP != 0
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return over
}

func (l *life) mustEnd(t *testing.T) {
	t.Helper()
	select {
	case <-l.dead:
	case <-time.After(limit):
		t.Fatal("a process of COMMAND is still alive")
	}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	watching := start(t, s.command("watch", "/k"))
	watching.mustSay("it has no owner")
	watching.signal(syscall.SIGINT)
	watching.mustExit(128+int(syscall.SIGINT), "")

	holder := s.hold("/k")
	holder.signal(syscall.SIGTERM) // its COMMAND has no handler for it
	holder.mustExit(128+int(syscall.SIGTERM), "")
	s.status("/k", "none", 3)
}

// COMMAND ends with a killed owner. Another owns within the TTL and a second.
func TestKillNine(t *testing.T) {
	t.Parallel()
	s, l := startServer(t), newLife(t)
	first := l.run(t, s.command("run", "/k", l.stubborn()...))
	second := start(t, s.command("run", "/k", append([]string{"-q", "--"}, self("test-cat")...)...))
	killed := time.Now()
	first.signal(syscall.SIGKILL)
	l.mustEnd(t)
	if got := second.line(); got != "started" {
		t.Errorf("got %q", got)
	}
	acquired, err := time.Parse(time.RFC3339Nano, s.status("/k", "live", 0)["acquired_at"].(string))
	if took := acquired.Sub(killed); err != nil || took > ttl+time.Second {
		t.Errorf("another owns after %v; %v", took, err)
	}
	_ = second.stdin.Close()
	second.mustExit(0, "")
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
			s, l := startServer(t), newLife(t)
			p := l.run(t, s.command("run", "/k", l.stubborn()...))
			c.lose(t, s)
			lost := time.Now()
			l.mustEnd(t)
			// The last renewal that counted was before the loss.
			if took := time.Since(lost); took > ttl {
				t.Errorf("COMMAND ran for %v after the loss; the lease lasted for %v at most", took, ttl)
			}
			p.mustExit(122, "owner-etcd: lost the lease, and ended COMMAND: "+c.says)
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
			s, l := startServer(t), newLife(t)
			inner := self(s.args("run", "/inner", l.stubborn()...)...)
			p := l.run(t, s.command("run", "/outer", inner...))
			if _, err := s.Client(t).Delete(t.Context(), lost); err != nil {
				t.Fatal(err)
			}
			deleted := time.Now()
			l.mustEnd(t)
			if took := time.Since(deleted); took > ttl {
				t.Errorf("COMMAND ran for %v after the loss; the lease lasted for %v at most", took, ttl)
			}
			p.mustExit(122, "lost the lease, and ended COMMAND: lease revoked")
		})
	}
}

// COMMAND ends while its owner is stopped, and before another starts.
func TestStoppedForTooLong(t *testing.T) {
	t.Parallel()
	s, l := startServer(t), newLife(t)
	p := l.run(t, s.command("run", "/k", l.stubborn()...))
	p.signal(syscall.SIGSTOP)
	_, stderr, code := toItsEnd(t, s.command("run", "/k", "true"))
	if code != 0 || !l.ended(t) {
		t.Errorf("exit %d, %q; COMMAND has ended: %v", code, stderr, l.ended(t))
	}
	p.signal(syscall.SIGCONT)
	p.mustExit(122, "owner-etcd: lost the lease, and ended COMMAND: ")
}

// No test can suspend the machine. But where the clock that counts suspends is ahead of
// the other, a use of the wrong one is detected.
func TestStoppedWhereTheMachineHasSlept(t *testing.T) {
	t.Parallel()
	slept := []string{"unshare", "--time", "--boottime", "3600000", "--fork", "--kill-child"}
	if runtime.GOOS != "linux" || exec.Command(slept[0], append(slept[1:], "true")...).Run() != nil {
		t.Skip("no time namespace can be made here")
	}
	s, l := startServer(t), newLife(t)
	// The shell's parent is the warden, and the warden's is the owner; the test's child
	// is unshare, which comes before it.
	script := append([]string{"sh", "-c", `ps -o ppid= -p $PPID; exec "$0" "$@"`}, l.stubborn()...)
	args := append(slept[1:], self(s.args("run", "/k", script...)...)...)
	p := start(t, prepared(exec.Command(slept[0], args...)))
	var pid int
	if _, err := fmt.Sscan(p.line(), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	in, err := os.Open(l.path)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.line(); got != "ready" {
		t.Fatalf("got %q", got)
	}
	_ = l.pipe.Close()
	_, _ = io.Copy(io.Discard, in)
	if took := time.Since(stopped); took < ttl/4 || took > ttl {
		t.Errorf("COMMAND has ended after %v; the lease lasted for %v at most", took, ttl)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.mustExit(122, "owner-etcd: lost the lease, and ended COMMAND: ")
}

// The owner cannot release while it is stopped: its lease expires, or the wait ends before.
func TestRevocationOfAHungOwner(t *testing.T) {
	t.Parallel()
	s, l := startServer(t), newLife(t)
	p := l.run(t, s.command("run", "/k", append([]string{"--ttl", "5s"}, l.stubborn()...)...))
	p.signal(syscall.SIGSTOP)
	out, stderr, code := toItsEnd(t, s.command("revoke", "/k", "--wait", "500ms"))
	if code != 124 || !strings.HasPrefix(stderr, "owner-etcd: gave up after 500ms: ") {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	if out, stderr, code := toItsEnd(t, s.command("revoke", "/k")); code != 0 || !strings.HasPrefix(out, "revoked: pid ") || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	s.status("/k", "none", 3)
	p.signal(syscall.SIGCONT)
	p.mustExit(122, "lost the lease")
	l.mustEnd(t)
}
