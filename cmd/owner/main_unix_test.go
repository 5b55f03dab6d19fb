//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ownerlease/owner"
)

// A life shows when all processes of a COMMAND have ended: they alone hold a named pipe
// open for writing, and the last one's end closes it. Zombies do not count.
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

// script is a shell script that runs as long as its group.
func (l *life) script(s string) []string {
	return []string{"sh", "-c", "exec 9>" + l.path + "; " + s}
}

// watch begins to wait for the end. COMMAND must have begun.
func (l *life) watch(t *testing.T) {
	t.Helper()
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

// heedSignals makes the tests' processes start with no signal ignored, as in a terminal:
// nohup ignores some, and so does a shell for its background jobs. A child does not
// inherit what its parent catches.
func heedSignals() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// startScript starts a script under a lease and waits for its first line, which
// must be "ready".
func startScript(t *testing.T, lease string, flags []string, l *life, script string) *process {
	t.Helper()
	args := append([]string{"run", "--lease", lease}, flags...)
	p := start(t, append(append(args, "--"), l.script(script)...)...)
	if got := p.line(); got != "ready" {
		t.Fatalf("got %q", got)
	}
	l.watch(t)
	return p
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// signalJob sends a signal as a shell does: to the whole group.
func (p *process) signalJob(sig syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) mustExit(code int, stderr string) {
	p.t.Helper()
	out, got := p.wait()
	if got != code || !strings.Contains(p.stderr.String(), stderr) || (stderr == "") != (p.stderr.Len() == 0) || strings.Count(p.stderr.String(), "\n") > 1 {
		p.t.Errorf("exit %d, want %d, and %q on stderr: %q; stdout: %q", got, code, stderr, &p.stderr, out)
	}
}

// A script that cannot be ended but by KILL, with a child of the same kind.
const stubborn = `trap "" TERM HUP INT; sleep 1000 & echo ready; wait`

func TestExitCodeOfASignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGUSR1} {
		_, stderr, code := ownerCommand(t, "run", "--lease", leaseIn(t), "sh", "-c", fmt.Sprintf("kill -%d $$", sig))
		if code != 128+int(sig) || stderr != "" {
			t.Errorf("%v: exit %d, %q", sig, code, stderr)
		}
	}
}

func TestCannotRun(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	noProgram := filepath.Join(t.TempDir(), "no-program")
	if err := os.WriteFile(noProgram, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, filepath.Dir(plain), noProgram} {
		_, stderr, code := ownerCommand(t, "run", "-n", "--lease", lease, path)
		if code != 126 || !strings.HasPrefix(stderr, "owner: cannot run COMMAND: ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", path, code, stderr)
		}
	}
	// What could only be found out by trying has left a free lease.
	wantStatus(t, lease, "released", 3)
}

func TestSignalsAreForwarded(t *testing.T) {
	t.Parallel()
	sigs := []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM,
		syscall.SIGWINCH, syscall.SIGCONT, syscall.SIGTERM,
	}
	script := "exec '" + self() + "' test-signals"
	for _, sig := range sigs {
		script += " " + strconv.Itoa(int(sig))
	}
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, nil, l, script)
	for _, sig := range sigs {
		p.signal(sig)
		if got := p.line(); got != strconv.Itoa(int(sig)) {
			t.Errorf("%v arrived as %q", sig, got)
		}
	}
	// The lease is kept until COMMAND has ended, whatever it was sent.
	wantStatus(t, lease, "live", 0)
	p.types("3\n")
	p.mustExit(3, "")
	wantStatus(t, lease, "released", 3)
}

func TestIgnoredSignalStaysIgnored(t *testing.T) {
	t.Parallel()
	cmd := command()
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `trap "" HUP; exec "$0" run --lease "$1" sh -c 'echo ready; read x'`, self(), leaseIn(t)}
	p := startCommand(t, cmd)
	if got := p.line(); got != "ready" {
		t.Fatalf("got %q", got)
	}
	p.signal(syscall.SIGHUP)
	p.types("go\n")
	p.mustExit(0, "")
}

func TestLossEndsCommandInTime(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, []string{"--ttl", "4s"}, l, stubborn)
	removed := time.Now()
	if err := os.Remove(lease); err != nil {
		t.Fatal(err)
	}
	l.mustEnd(t)
	// The last renewal that counted was before the removal.
	if took := time.Since(removed); took > 4*time.Second {
		t.Errorf("COMMAND ran for %v after the removal; the lease lasted for 4s at most", took)
	}
	p.mustExit(122, "owner: lost the lease, and ended COMMAND: lease revoked")
}

func TestLossLeavesCommandItsGrace(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, []string{"--ttl", "1s"}, l, `exec 2>/dev/null; trap "echo cleaned up; exit 0" TERM; echo ready; while :; do sleep 0.05; done`)
	if err := os.Remove(lease); err != nil {
		t.Fatal(err)
	}
	if got := p.line(); got != "cleaned up" {
		t.Errorf("got %q", got)
	}
	p.mustExit(122, "owner: lost the lease, ")
	l.mustEnd(t)
}

func TestKillNineLeavesNothing(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, nil, l, stubborn)
	p.signal(syscall.SIGKILL)
	l.mustEnd(t)
	wantStatus(t, lease, "dead", 3)
	// Nothing holds the stdout that COMMAND had: not the warden either.
	p.wait()
}

func TestLeftoversAreEndedBeforeTheRelease(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	// At TERM, the leftover prints the status of the lease.
	p := startScript(t, lease, nil, l,
		fmt.Sprintf(`(trap '"%s" status --lease "$OWNER_LEASE"; exit' TERM; echo ready; while :; do sleep 0.01; done) 2>/dev/null & read x; exit 5`, self()))
	_ = p.stdin.Close()
	out, code := p.wait()
	if code != 5 || p.stderr.Len() > 0 || !strings.Contains(out, "condition  live: ") {
		t.Errorf("exit %d, %q, %q", code, out, &p.stderr)
	}
	l.mustEnd(t)
	wantStatus(t, lease, "released", 3)
}

func TestStubbornLeftoversAreKilled(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, []string{"--grace", "100ms"}, l, `(`+stubborn+`) & read x; exit 6`)
	_ = p.stdin.Close()
	p.mustExit(6, "")
	l.mustEnd(t)
	wantStatus(t, lease, "released", 3)
}

func TestStoppedForTooLong(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, []string{"--ttl", "3s"}, l, stubborn) // the warden has 75ms to end it
	p.signal(syscall.SIGSTOP)
	// COMMAND ends while the owner is stopped, and before a successor starts.
	_, stderr, code := ownerCommand(t, "run", "--lease", lease, "true")
	if code != 0 || !l.ended(t) {
		t.Errorf("exit %d, %q; COMMAND has ended: %v", code, stderr, l.ended(t))
	}
	p.signal(syscall.SIGCONT)
	p.mustExit(122, "owner: lost the lease, and ended COMMAND: ")
}

func TestStoppedForTooLongWithoutItsWarden(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, []string{"--ttl", "3s", "--grace", "1.5s"}, l, stubborn)
	if err := syscall.Kill(wardenOf(t, p.cmd.Process.Pid), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGSTOP)
	eventually(t, "the lease expires", func() bool {
		st, err := owner.Probe(lease)
		return err == nil && st.Condition == owner.Hung
	})
	wantStatus(t, lease, "hung", 3)
	resumed := time.Now()
	p.signal(syscall.SIGCONT)
	l.mustEnd(t)
	if took := time.Since(resumed); took > 1500*time.Millisecond {
		t.Errorf("COMMAND ran for %v after the resumption: it was given its grace", took)
	}
	p.mustExit(122, "owner: lost the lease, and ended COMMAND: ")
}

func TestStoppedForAMoment(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, nil, l, "echo ready; read x; exit 7")
	p.signal(syscall.SIGSTOP)
	p.signal(syscall.SIGCONT)
	_ = p.stdin.Close()
	p.mustExit(7, "")
}

func TestCommandThatIsStoppedGoesOnOwning(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, nil, l, "echo ready; echo $$; kill -STOP $$; echo resumed; exit 8")
	pid, _ := strconv.Atoi(p.line())
	eventually(t, "COMMAND stops", func() bool { return isStopped(t, pid) })
	if isStopped(t, p.cmd.Process.Pid) {
		t.Error("the owner has stopped, too")
	}
	wantStatus(t, lease, "live", 0)
	p.signal(syscall.SIGCONT)
	if got := p.line(); got != "resumed" {
		t.Errorf("got %q", got)
	}
	p.mustExit(8, "")
}

func TestJobControl(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, nil, l, "echo ready; echo $$; while read x; do echo $x; done; exit 9")
	pid, _ := strconv.Atoi(p.line())
	for _, round := range []string{"one", "two"} {
		p.signalJob(syscall.SIGTSTP)
		eventually(t, "COMMAND and its owner stop", func() bool { return isStopped(t, pid) && isStopped(t, p.cmd.Process.Pid) })
		p.types(round + "\n")
		p.signalJob(syscall.SIGCONT)
		if got := p.line(); got != round {
			t.Errorf("got %q", got)
		}
	}
	_ = p.stdin.Close()
	p.mustExit(9, "")
}

func TestJobThatWasStoppedForTooLongIsNotResumed(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, []string{"--ttl", "500ms"}, l, "echo ready; read x; kill -TSTP 0; echo resumed")
	// Without the warden, which would have killed it before.
	if err := syscall.Kill(wardenOf(t, p.cmd.Process.Pid), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.types("\n")
	eventually(t, "the lease expires", func() bool {
		st, err := owner.Probe(lease)
		return err == nil && st.Condition == owner.Hung
	})
	p.signal(syscall.SIGCONT)
	out, code := p.wait()
	if code != 122 || out != "" {
		t.Errorf("exit %d, %q, %q", code, out, &p.stderr)
	}
	l.mustEnd(t)
}

func TestUnusedWardenIsInvisible(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, nil, l, "echo ready; read x; exit 0")
	warden := wardenOf(t, p.cmd.Process.Pid)
	// A kill of all processes of this name must not end the protection.
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(warden, sig); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.stdin.Close()
	p.mustExit(0, "")
	if err := syscall.Kill(warden, 0); err != syscall.ESRCH {
		t.Errorf("the warden is still there: %v", err)
	}
}

// isStopped reports whether a process is stopped by a signal.
func isStopped(t *testing.T, pid int) bool {
	t.Helper()
	out, _ := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	return strings.HasPrefix(strings.TrimSpace(string(out)), "T")
}

// wardenOf returns the pid of an owner's warden.
func wardenOf(t *testing.T, parent int) int {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[1] == strconv.Itoa(parent) && f[2] == "owner-warden" {
			pid, _ := strconv.Atoi(f[0])
			return pid
		}
	}
	t.Fatalf("process %d has no warden", parent)
	return 0
}

func TestShellLine(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"SHELL=", "SHELL=/bin/sh"} {
		cmd := command("run", "--lease", leaseIn(t), "-c", "echo one && exit 7")
		cmd.Env = append(cmd.Env, shell)
		p := startCommand(t, cmd)
		if out, code := p.wait(); out != "one\n" || code != 7 {
			t.Errorf("%s: got %q, exit %d, %q", shell, out, code, &p.stderr)
		}
	}
	cmd := command("run", "--lease", leaseIn(t), "-c", "not a line for sh")
	cmd.Env = append(cmd.Env, "SHELL=/bin/echo")
	p := startCommand(t, cmd)
	if out, code := p.wait(); out != "-c not a line for sh\n" || code != 0 {
		t.Errorf("$SHELL was not used: %q, exit %d, %q", out, code, &p.stderr)
	}
}
