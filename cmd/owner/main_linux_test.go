package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSignalEndsTheWait(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	holder := hold(t, lease)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		looked := watchOpens(t, lease)
		p := start(t, "run", "--lease", lease, "sh", "-c", "echo ran")
		looked()
		p.signal(sig)
		p.mustExit(128+int(sig), "")
	}
	_ = holder.stdin.Close()
	holder.mustExit(0, "")
}

func TestSignalEndsTheWaitOfARevocation(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	holder := startScript(t, lease, []string{"--ttl", "1m"}, l, "echo ready; read x")
	holder.signal(syscall.SIGSTOP)
	looked := watchOpens(t, lease)
	p := start(t, "revoke", "--lease", lease)
	looked()
	p.signal(syscall.SIGTERM)
	p.mustExit(128+int(syscall.SIGTERM), "owner: ") // before or after it was revoked
	holder.signal(syscall.SIGKILL)
	l.mustEnd(t)
}

func TestWatchEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	p := start(t, "watch", "--lease", leaseIn(t))
	p.line()
	if err := p.out.Close(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	if code := shellCode(p.cmd.ProcessState); code != 128+int(syscall.SIGPIPE) || p.stderr.Len() > 0 {
		t.Errorf("exit %d, %q", code, &p.stderr)
	}
}

// watchOpens returns a function that waits until the file has been opened.
func watchOpens(t *testing.T, path string) func() {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	return func() {
		t.Helper()
		defer f.Close()
		_ = f.SetReadDeadline(time.Now().Add(limit))
		if _, err := f.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
}

// A pty is the other end of a terminal.
type pty struct {
	*process
	in *bufio.Reader
}

// startOnTerminal starts a command as the leader of a session with its own terminal,
// which is also its stdout where that is nil.
func startOnTerminal(t *testing.T, stdout *os.File, cmd *exec.Cmd) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	cmd.Env = command().Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if stdout != nil {
		cmd.Stdout = stdout
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		stuck.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &pty{process: &process{t: t, cmd: cmd, stdin: master}, in: bufio.NewReader(master)}
}

// until reads the terminal until something is there.
func (p *pty) until(want string) string {
	p.t.Helper()
	var all strings.Builder
	for !strings.Contains(all.String(), want) {
		b, err := p.in.ReadByte()
		if err != nil {
			p.t.Fatalf("waiting for %q: %v; got %q", want, err, all.String())
		}
		all.WriteByte(b)
	}
	return all.String()
}

// rest reads the terminal until the command has ended, and all that have the
// terminal.
func (p *pty) rest() string {
	p.t.Helper()
	said, _ := io.ReadAll(p.in) // ends with an error
	_ = p.cmd.Wait()
	return string(said)
}

func (p *pty) exits(code int) {
	p.t.Helper()
	_ = p.cmd.Wait()
	if got := shellCode(p.cmd.ProcessState); got != code {
		p.t.Errorf("exit %d, want %d", got, code)
	}
}

func TestCommandHasTheTerminal(t *testing.T) {
	t.Parallel()
	p := startOnTerminal(t, nil, command("run", "--lease", leaseIn(t), "sh", "-c",
		`sleep 0.1; ps -o pgid=,tpgid= -p $$; while read x; do echo "got $x"; done`))
	var group, foreground int
	text := strings.TrimSpace(p.until("\n"))
	if _, err := fmt.Sscan(text, &group, &foreground); err != nil || group != foreground {
		t.Errorf("its group and the terminal's: %q (%v)", text, err)
	}
	p.types("line\n")
	p.until("got line")
	// No shell watches over the session's leader: Ctrl-Z must not leave it hanging.
	p.types("\x1a")
	p.types("more\n")
	p.until("got more")
	p.types("\x03")
	p.exits(128 + int(syscall.SIGINT))
}

// In a pipeline, as anywhere, it is in the group that the shell has made.
func TestCommandInAPipelineHasTheTerminal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "stdout")
	stdout, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	p := startOnTerminal(t, stdout, command("run", "--lease", leaseIn(t), "sh", "-c",
		`ps -o pgid=,tpgid= -p $$; echo ready >&2; read x; exit 4`))
	p.until("ready")
	p.types("line\n")
	p.exits(4)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var group, foreground int
	if _, err := fmt.Sscan(string(text), &group, &foreground); err != nil || group != p.cmd.Process.Pid || foreground != group {
		t.Errorf("its group and the terminal's: %q (%v), want %d twice", text, err, p.cmd.Process.Pid)
	}
}

// A stop that comes right after a resume stops COMMAND and its owner: the SIGCONT that
// the owner passes on must not undo it for COMMAND alone. An owner that passed on every
// SIGCONT missed it once in some 25 rounds. One miss is borne with: two signals to a
// group reach its processes one after the other, and what a process passes on can come
// in between, as it did once in some 40,000 rounds.
func TestStoppedRightAfterAResume(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), newLife(t)
	p := startScript(t, lease, nil, l, "echo ready; echo $$; while read x; do echo $x; done; exit 9")
	var pid int
	if _, err := fmt.Sscan(p.line(), &pid); err != nil {
		t.Fatal(err)
	}
	missed := 0
	for range 200 {
		p.signalJob(syscall.SIGTSTP)
		for deadline := time.Now().Add(10 * time.Second); !isStoppedNow(t, pid) || !isStoppedNow(t, p.cmd.Process.Pid); time.Sleep(100 * time.Microsecond) {
			if time.Now().After(deadline) {
				missed++
				break
			}
		}
		if missed > 1 {
			t.Fatal("COMMAND continues while its owner is stopped")
		}
		p.types("line\n")
		p.signalJob(syscall.SIGCONT)
		if got := p.line(); got != "line" {
			t.Fatalf("got %q", got)
		}
	}
	_ = p.stdin.Close()
	p.mustExit(9, "")
}

// isStoppedNow is isStopped without a new process, which would take too long.
func isStoppedNow(t *testing.T, pid int) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(string(text[strings.LastIndexByte(string(text), ')')+1:]), " T ")
}
