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

	"github.com/ownerlease/owner/internal/cmdtest"
)

func TestSignalEndsTheWait(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	holder := hold(t, lease)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		looked := watchOpens(t, lease)
		p := start(t, "run", "--lease", lease, "sh", "-c", "echo ran")
		looked()
		p.Signal(sig)
		p.MustExit(128+int(sig), "")
	}
	_ = holder.Stdin.Close()
	holder.MustExit(0, "")
}

func TestSignalEndsTheWaitOfARevocation(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	holder := startScript(t, lease, []string{"--ttl", "1m"}, l, "echo ready; read x")
	holder.Signal(syscall.SIGSTOP)
	looked := watchOpens(t, lease)
	p := start(t, "revoke", "--lease", lease)
	looked()
	p.Signal(syscall.SIGTERM)
	p.MustExit(128+int(syscall.SIGTERM), "owner: ") // before or after it was revoked
	holder.Signal(syscall.SIGKILL)
	l.MustEnd(t)
}

func TestWatchEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	p := start(t, "watch", "--lease", leaseIn(t))
	p.Line()
	if err := p.Out.Close(); err != nil {
		t.Fatal(err)
	}
	_ = p.Cmd.Wait()
	if code := cmdtest.ShellCode(p.Cmd.ProcessState); code != 128+int(syscall.SIGPIPE) || p.Stderr.Len() > 0 {
		t.Errorf("exit %d, %q", code, &p.Stderr)
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
		_ = f.SetReadDeadline(time.Now().Add(cmdtest.Limit))
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
	stuck := time.AfterFunc(cmdtest.Limit, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		stuck.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &pty{process: &process{&cmdtest.Process{T: t, Cmd: cmd, Stdin: master}}, in: bufio.NewReader(master)}
}

// until reads the terminal until something is there.
func (p *pty) until(want string) string {
	p.T.Helper()
	var all strings.Builder
	for !strings.Contains(all.String(), want) {
		b, err := p.in.ReadByte()
		if err != nil {
			p.T.Fatalf("waiting for %q: %v; got %q", want, err, all.String())
		}
		all.WriteByte(b)
	}
	return all.String()
}

// rest reads the terminal until the command has ended, and all that have the
// terminal.
func (p *pty) rest() string {
	p.T.Helper()
	said, _ := io.ReadAll(p.in) // ends with an error
	_ = p.Cmd.Wait()
	return string(said)
}

func (p *pty) exits(code int) {
	p.T.Helper()
	_ = p.Cmd.Wait()
	if got := cmdtest.ShellCode(p.Cmd.ProcessState); got != code {
		p.T.Errorf("exit %d, want %d", got, code)
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
	p.Types("line\n")
	p.until("got line")
	// No shell watches over the session's leader: Ctrl-Z must not leave it hanging.
	p.Types("\x1a")
	p.Types("more\n")
	p.until("got more")
	p.Types("\x03")
	p.exits(128 + int(syscall.SIGINT))
}

// The end of the terminal ends the pause before COMMAND is started again.
func TestHangupInAPause(t *testing.T) {
	t.Parallel()
	p := startOnTerminal(t, nil, command("run", "--lease", leaseIn(t), "--restart", "99", "-c", "exit 3"))
	p.until("restart 6 of 99")
	_ = p.Stdin.Close()
	p.exits(128 + int(syscall.SIGHUP))
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
	p.Types("line\n")
	p.exits(4)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var group, foreground int
	if _, err := fmt.Sscan(string(text), &group, &foreground); err != nil || group != p.Cmd.Process.Pid || foreground != group {
		t.Errorf("its group and the terminal's: %q (%v), want %d twice", text, err, p.Cmd.Process.Pid)
	}
}

// A stop that comes right after a resume stops COMMAND and its owner: the SIGCONT that
// the owner passes on must not undo it for COMMAND alone. An owner that passed on every
// SIGCONT missed it once in some 25 rounds. One miss is borne with: two signals to a
// group reach its processes one after the other, and what a process passes on can come
// in between, as it did once in some 40,000 rounds.
func TestStoppedRightAfterAResume(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, "echo ready; echo $$; while read x; do echo $x; done; exit 9")
	var pid int
	if _, err := fmt.Sscan(p.Line(), &pid); err != nil {
		t.Fatal(err)
	}
	missed := 0
	for range 200 {
		p.SignalJob(syscall.SIGTSTP)
		for deadline := time.Now().Add(10 * time.Second); !isStoppedNow(t, pid) || !isStoppedNow(t, p.Cmd.Process.Pid); time.Sleep(100 * time.Microsecond) {
			if time.Now().After(deadline) {
				missed++
				break
			}
		}
		if missed > 1 {
			t.Fatal("COMMAND continues while its owner is stopped")
		}
		p.Types("line\n")
		p.SignalJob(syscall.SIGCONT)
		if got := p.Line(); got != "line" {
			t.Fatalf("got %q", got)
		}
	}
	_ = p.Stdin.Close()
	p.MustExit(9, "")
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
