package proc

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

const childEnv = "OWNER_TEST_PROC_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "started":
		_, _ = os.Stdout.WriteString(Started())
	case "waits":
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

func supported(t *testing.T) {
	t.Helper()
	if p, err := Open(os.Getpid()); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("not on %s: %v", runtime.GOOS, err)
	} else if err != nil {
		t.Fatal(err)
	} else {
		p.Close()
	}
}

// startChild starts a process that ends with its input.
func startChild(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=waits")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func openProcess(t *testing.T, pid int) Process {
	t.Helper()
	p, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// What a process says of itself is what others find out about it.
func TestStarted(t *testing.T) {
	supported(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=started")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := openProcess(t, cmd.Process.Pid)
	seen, err := p.Started()
	told, rerr := io.ReadAll(out)
	if err != nil && !errors.Is(err, os.ErrProcessDone) || rerr != nil {
		t.Fatal(err, rerr)
	}
	_ = cmd.Wait()
	if n, err := strconv.ParseUint(string(told), 10, 64); err != nil || n == 0 {
		t.Errorf("the process says that it was started at %q", told)
	}
	if err == nil && seen != string(told) {
		t.Errorf("started at %q, and says %q", seen, told)
	}
	if s, err := p.Started(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a process that has ended: %q, %v", s, err)
	}
}

func TestKill(t *testing.T) {
	supported(t)
	cmd := startChild(t)
	p := openProcess(t, cmd.Process.Pid)
	if same, err := p.SameUser(); !same || err != nil {
		t.Errorf("the same user: %v, %v", same, err)
	}
	stop(t, cmd.Process)
	canceled, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	if err := p.Wait(canceled); err != cause {
		t.Errorf("a wait that was canceled: %v", err)
	}
	if err := p.Wait(canceled); err != cause {
		t.Errorf("another: %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

// The end is waited for anew after a wait that was canceled.
func TestWait(t *testing.T) {
	supported(t)
	cmd := startChild(t)
	p := openProcess(t, cmd.Process.Pid)
	time.AfterFunc(20*time.Millisecond, func() { _ = p.Kill() })
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // and the pid is free
	if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("killed again: %v", err)
	}
	if _, err := p.SameUser(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("the user of a process that has ended: %v", err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("waited again: %v", err)
	}
}

func TestOpenNone(t *testing.T) {
	for _, pid := range []int{0, -1} {
		if _, err := Open(pid); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("pid %d: %v", pid, err)
		}
	}
	supported(t)
	cmd := startChild(t)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	p, err := Open(cmd.Process.Pid)
	if !errors.Is(err, os.ErrProcessDone) {
		if err == nil {
			p.Close()
		}
		if runtime.GOOS != "windows" { // where a handle of it may still be open
			t.Errorf("a process that has ended: %v", err)
		}
	}
}

func TestUnsupported(t *testing.T) {
	if !errors.Is(ErrUnsupported, errors.ErrUnsupported) || strings.Contains(ErrUnsupported.Error(), "\n") {
		t.Error(ErrUnsupported)
	}
}
