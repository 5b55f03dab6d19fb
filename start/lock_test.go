package start

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// lockOf is the lock of a new lease.
func lockOf(t *testing.T) lockFile {
	lease := filepath.Join(t.TempDir(), "x")
	return lockFile{leasename.Start(lease), lease}
}

func taken(t *testing.T, l lockFile) *turn {
	t.Helper()
	turn, err := l.take()
	must(t, err)
	if turn == nil {
		t.Fatal("another has the lock")
	}
	return turn
}

func TestTurns(t *testing.T) {
	l := lockOf(t)
	first := taken(t, l)
	if again, err := l.take(); again != nil || err != nil {
		t.Fatal("two have the lock", err)
	}
	if n := first.read(); n != nil {
		t.Errorf("%+v", n)
	}
	want := note{PID: os.Getpid(), Namespace: namespace(), At: time.Now(), Timeout: time.Minute}
	first.write(want)
	first.free()
	second := taken(t, l)
	if n := second.read(); n == nil || n.PID != want.PID || !n.At.Equal(want.At) || n.Timeout != want.Timeout || !n.underWay() {
		t.Errorf("%+v", n)
	}
	second.write(note{})
	if n := second.read(); n != nil {
		t.Errorf("%+v", n)
	}
	second.free()
	info, err := os.Stat(l.path)
	must(t, err)
	if info.Size() != lockSize {
		t.Errorf("%d bytes", info.Size())
	}
	if entries, err := os.ReadDir(filepath.Dir(l.path)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A lock that is removed while it is held is of no use to its holder; the next one makes
// another, and a note is not written into that.
func TestRemovedLock(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no file that is locked can be removed")
	}
	l := lockOf(t)
	first := taken(t, l)
	defer first.free()
	must(t, os.Remove(l.path))
	second := taken(t, l)
	defer second.free()
	first.write(note{PID: 1})
	if n := second.read(); n != nil {
		t.Errorf("%+v", n)
	}
}

// Another program's file is neither locked nor written.
func TestForeignLock(t *testing.T) {
	for _, content := range []string{"", "\x00\x00", "another program's", "owner-lease/1 start\n"} {
		l := lockOf(t)
		must(t, os.WriteFile(l.path, []byte(content), 0o600))
		if turn, err := l.take(); turn != nil || !errors.Is(err, owner.ErrInvalidConfig) || !strings.Contains(err.Error(), l.path) {
			t.Errorf("%q: %v", content, err)
		}
		if b, err := os.ReadFile(l.path); err != nil || string(b) != content {
			t.Errorf("%q, %v", b, err)
		}
	}
	l := lockOf(t)
	must(t, os.Mkdir(l.path, 0o700))
	if _, err := l.take(); err == nil {
		t.Error("a folder")
	}
}

// Nor is it beside a lease, where a blank one is ours, if it begins like that.
func TestForeignLockThatBeginsBlank(t *testing.T) {
	for _, content := range []string{"x", strings.Repeat("\x00", 64) + "precious", strings.Repeat("\x00", lockSize) + "precious", strings.Repeat("\x00", lockSize+1)} {
		l := lockOf(t)
		must(t, os.WriteFile(l.path, []byte(content), 0o600), os.WriteFile(leasename.Guard(l.lease), []byte(leasename.GuardMark), 0o600))
		if turn, err := l.take(); turn != nil || !errors.Is(err, owner.ErrInvalidConfig) {
			t.Errorf("%d bytes: %v", len(content), err)
		}
		if b, err := os.ReadFile(l.path); err != nil || string(b) != content {
			t.Errorf("%d bytes before, and now %d, %v", len(content), len(b), err)
		}
	}
}

// An empty file is ours beside the lease's guard, or where it was named.
func TestBlankLock(t *testing.T) {
	for _, guard := range []string{leasename.GuardMark, ""} {
		l := lockOf(t)
		must(t, os.WriteFile(l.path, nil, 0o600), os.WriteFile(leasename.Guard(l.lease), []byte(guard), 0o600))
		turn := taken(t, l)
		turn.write(note{PID: 1, Namespace: "n"})
		if n := turn.read(); n == nil || n.PID != 1 {
			t.Errorf("%+v", n)
		}
		turn.free()
	}
	l := lockOf(t)
	must(t, os.WriteFile(l.path, nil, 0o600), os.WriteFile(leasename.Guard(l.lease), []byte("another's"), 0o600))
	if _, err := l.take(); !errors.Is(err, owner.ErrInvalidConfig) {
		t.Error(err)
	}
	l.lease = ""
	taken(t, l).free()
}

// Who may take part in a lease may start its owner.
func TestLockHasTheAccessOfTheGuard(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	lease := filepath.Join(t.TempDir(), "x")
	must(t, os.Chmod(filepath.Dir(lease), 0o770))
	o, err := owner.Join(context.Background(), owner.Config{LeasePath: lease, TTL: time.Minute, FileMode: 0o660})
	must(t, err, o.Release())
	l := lockFile{leasename.Start(lease), lease}
	taken(t, l).free()
	guard, err := disk.OS.Access(leasename.Guard(lease))
	must(t, err)
	if is, err := disk.OS.Access(l.path); err != nil || is != guard || is.Perm != 0o660 {
		t.Errorf("%+v, %v; the guard has %+v", is, err, guard)
	}
}

func TestUnderWay(t *testing.T) {
	since, err := started(os.Getpid())
	now := note{PID: os.Getpid(), Started: since, Namespace: namespace(), At: time.Now(), Timeout: time.Minute}
	for what, x := range map[string]struct {
		change func(*note)
		want   bool
	}{
		"a process that exists":        {func(*note) {}, true},
		"none":                         {func(n *note) { n.PID = 0 }, false},
		"a negative pid":               {func(n *note) { n.PID = -1 }, false},
		"none of this number":          {func(n *note) { n.PID = 1<<31 - 2 }, false},
		"another namespace":            {func(n *note) { n.Namespace += "x" }, false},
		"too long ago":                 {func(n *note) { n.At = n.At.Add(-2 * time.Minute) }, false},
		"in the future":                {func(n *note) { n.At = n.At.Add(time.Hour) }, false},
		"no start time":                {func(n *note) { n.Started = "" }, true},
		"another that has its pid now": {func(n *note) { n.Started += "0" }, err != nil},
	} {
		n := now
		x.change(&n)
		if got := n.underWay(); got != x.want {
			t.Errorf("%s: %v", what, got)
		}
	}
	if (*note)(nil).underWay() {
		t.Error("nil")
	}
}

// A process that has ended is not waited for, although its parent has not reaped it.
func TestZombieIsNotUnderWay(t *testing.T) {
	if _, err := started(os.Getpid()); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "START_TEST_DO=hang", "START_TEST_LEASE="+filepath.Join(t.TempDir(), "x"))
	must(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	since, err := started(cmd.Process.Pid)
	must(t, err)
	n := note{PID: cmd.Process.Pid, Started: since, Namespace: namespace(), At: time.Now(), Timeout: time.Hour}
	if !n.underWay() {
		t.Error("it runs")
	}
	must(t, cmd.Process.Kill())
	for until := time.Now().Add(30 * time.Second); n.underWay(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it has ended, and is waited for")
		}
	}
	if runtime.GOOS != "windows" && !exists(n.PID) {
		t.Error("it is no zombie")
	}
}

// A starter that is stopped keeps the others waiting no longer than Timeout, and they say
// what they waited for.
func TestLockIsHeld(t *testing.T) {
	l := lockOf(t)
	turn := taken(t, l)
	defer turn.free()
	s, err := owner.FileStore(l.lease)
	must(t, err)
	_, err = Ensure(t.Context(), s, Command{Path: os.Args[0], Timeout: 50 * time.Millisecond})
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), l.path) {
		t.Error(err)
	}
	// An owner that appears meanwhile is returned without the lock.
	found := make(chan error, 1)
	go func() {
		_, err := Ensure(t.Context(), s, Command{Path: os.Args[0], Timeout: time.Minute})
		found <- err
	}()
	o, err := owner.Join(t.Context(), owner.Config{LeasePath: l.lease, TTL: time.Minute, Endpoint: "unix:/x"})
	must(t, err, <-found, o.Release())
}

func TestLastLines(t *testing.T) {
	for log, want := range map[string]string{
		"":               "",
		"one\n":          "one",
		"one\r\n\ntwo\n": "one; two",
		"\xff\n":         "?",
	} {
		if got := lastLines(log); got != want {
			t.Errorf("%q: %q", log, got)
		}
	}
	if got := lastLines(strings.Repeat("a line\n", 1000)); len(got) > 2*shownLog || !strings.HasPrefix(got, "… a line;") {
		t.Errorf("%d bytes, %.20q", len(got), got)
	}
}
