//go:build unix

package start_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/start"
)

// A starter is another process that calls Ensure.
type starter struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
}

func startStarter(t *testing.T, l *lease, do string, change ...func(*exec.Cmd)) *starter {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = environment(l.path, "ensure "+do)
	for _, f := range change {
		f(cmd)
	}
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	s := &starter{t, cmd, bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return s
}

// pid is the owner's that it has printed.
func (s *starter) pid() int {
	s.t.Helper()
	line, err := s.out.ReadString('\n')
	must(s.t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		s.t.Fatal(line)
	}
	return pid
}

// Processes that all need an owner at once, some with another TMPDIR: one starts it.
func TestManyProcesses(t *testing.T) {
	l := newLease(t)
	many := 100
	if testing.Short() {
		many = 20
	}
	starters := make([]*starter, many)
	for i := range starters {
		starters[i] = startStarter(t, l, "serve 50ms", func(cmd *exec.Cmd) {
			dir := t.TempDir()
			cmd.Env = append(cmd.Env, "TMPDIR="+dir, "XDG_RUNTIME_DIR="+dir)
		})
	}
	for _, s := range starters {
		if pid := s.pid(); pid != l.one() {
			t.Errorf("the owner is %d", pid)
		}
	}
}

// A starter is killed when it has started a process: the next one waits for that, and its
// lock is free.
func TestKilledStarter(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	s := startStarter(t, l, "late 1s")
	for len(l.started()) == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // until it has noted what it has started
	must(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
	rec, err := l.ensure(command(l.path, "serve"))
	must(t, err)
	if pid := l.one(); rec.PID != pid {
		t.Errorf("%+v", rec)
	}
}

// If that process has gone, too, another is started.
func TestKilledStarterAndItsProcess(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	s := startStarter(t, l, "hang")
	for len(l.started()) == 0 {
		time.Sleep(time.Millisecond)
	}
	must(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
	must(t, syscall.Kill(l.one(), syscall.SIGKILL))
	began := time.Now()
	_, err := l.ensure(command(l.path, "serve"))
	must(t, err)
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// The process has its own session, and nothing of its starter: neither the standard
// files, nor the lock, nor a descriptor that the starter has itself inherited.
func TestDetached(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	held, err := os.Create(filepath.Join(t.TempDir(), "held"))
	must(t, err)
	defer held.Close()
	must(t, unix.Flock(int(held.Fd()), unix.LOCK_EX))
	inR, inW, err := os.Pipe()
	must(t, err)
	defer inW.Close()
	s := startStarter(t, l, "serve", func(cmd *exec.Cmd) {
		cmd.Stdin = inR
		cmd.ExtraFiles = []*os.File{held} // inherited, as a shell's 3>held
	})
	must(t, inR.Close())
	pid := s.pid()
	rest, err := io.ReadAll(s.out) // ends with the starter, as the owner does not have its stdout
	must(t, err, s.cmd.Wait())
	if st, err := owner.Probe(l.path); len(rest) > 0 || err != nil || !st.Owned() {
		t.Fatalf("stdout ended only with the owner: %q, %+v, %v", rest, st, err)
	}
	if _, err := inW.Write([]byte("x")); err == nil {
		t.Error("the owner has the starter's stdin")
	}
	must(t, held.Close())
	again, err := os.Open(held.Name())
	must(t, err)
	defer again.Close()
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Error("the owner has inherited a lock:", err)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d of process %d, %v", sid, pid, err)
	}
	// Another can start when the owner ends, as nothing holds the lock.
	must(t, syscall.Kill(pid, syscall.SIGTERM))
	for owned := true; owned; {
		st, err := owner.Probe(l.path)
		owned = err == nil && st.Owned()
	}
	rec, err := l.ensure(command(l.path, "serve"))
	must(t, err)
	if rec.PID == pid {
		t.Error("not another")
	}
}

// The descriptors of this process are as before: those that are inherited stay so.
func TestDescriptorsAreRestored(t *testing.T) {
	l := newLease(t)
	fd, err := unix.Dup(1)
	must(t, err)
	defer unix.Close(fd)
	_, err = l.ensure(command(l.path, "exit 1"))
	if err == nil {
		t.Fatal("no error")
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
		t.Errorf("flags %d, %v", flags, err)
	}
}

// Those that have been started and have ended do not stay as zombies.
func TestNoZombie(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	rec, err := l.ensure(command(l.path, "serve"))
	must(t, err)
	must(t, syscall.Kill(rec.PID, syscall.SIGTERM))
	for until := time.Now().Add(start.ReapEvery + 10*time.Second); start.Exists(rec.PID); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("a zombie is left")
		}
	}
}

// A process that ignores TERM is killed, and what it has left in its group.
func TestStubborn(t *testing.T) {
	t.Parallel()
	l := newLease(t)
	c := start.Command{
		Path: "/bin/sh", Args: []string{"-c", `trap "" TERM; sleep 60 & echo $$ >>"$0.journal"; echo $! >>"$0.journal"; wait; wait`, l.path},
		Timeout: 2 * time.Second,
	}
	_, err := l.ensure(c)
	if err == nil {
		t.Fatal("no error")
	}
	pids := l.started()
	if len(pids) != 2 {
		t.Fatalf("started %v", pids)
	}
	for _, pid := range pids {
		for until := time.Now().Add(10 * time.Second); start.Exists(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("process %d was not ended: %v", pid, err)
			}
		}
	}
}

// A process that a signal has ended.
func TestSignaled(t *testing.T) {
	l := newLease(t)
	_, err := l.ensure(start.Command{Path: "/bin/sh", Args: []string{"-c", "kill -9 $$"}})
	if err == nil || !strings.Contains(err.Error(), "signal 9 (killed)") {
		t.Error(err)
	}
}

// A log that is no file is refused, and does not block.
func TestLogThatIsNoFile(t *testing.T) {
	l := newLease(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(l.path, link))
	for _, path := range []string{fifo, link, "/dev/tty", "/there/is/none"} {
		c := command(l.path, "serve")
		c.Log = path
		if _, err := l.ensure(c); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if pids := l.started(); len(pids) > 0 {
		t.Error(fmt.Sprint("started ", pids))
	}
	c := command(l.path, "serve")
	c.Log = os.DevNull
	_, err := l.ensure(c)
	must(t, err)
}
