package owner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What containers do to an owner: a clock of another time namespace, a freeze by
// their cgroup, and folders that the host shares.

// inTimeNamespace has a child's clocks be an hour ahead of the machine's.
func inTimeNamespace(cmd *exec.Cmd) {
	cmd.Args = append([]string{"unshare", "--time", "--monotonic", "3600", "--boottime", "3600", "--fork", "--kill-child"}, cmd.Args...)
	cmd.Path, cmd.Err = exec.LookPath("unshare")
}

func needTimeNamespaces(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("unshare", "--time", "--monotonic", "3600", "--fork", "true").CombinedOutput(); err != nil {
		t.Skipf("no time namespace can be made here (run it as root, on Linux 5.6 or later, with util-linux): %v: %s", err, out)
	}
}

// signal sends the child a signal when it is started by another command, which has
// another pid.
func (c *child) signal(pid int, sig syscall.Signal) {
	c.t.Helper()
	must(c.t, syscall.Kill(pid, sig))
	if sig == syscall.SIGSTOP {
		awaitFile(c.t, fmt.Sprintf("/proc/%d/stat", pid), ") T ")
	}
}

// awaitFile waits until a file of the kernel's contains a text.
func awaitFile(t testing.TB, path, want string) {
	t.Helper()
	var b []byte
	var err error
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
		if b, err = os.ReadFile(path); err == nil && strings.Contains(string(b), want) {
			return
		}
	}
	t.Fatalf("%s: no %q in %q, %v", path, want, b, err)
}

// pidOf is the process of a child that owns a lease.
func pidOf(t *testing.T, path string) int {
	t.Helper()
	rec, err := Inspect(path)
	must(t, err)
	return rec.PID
}

// The end of a process means the same in each time namespace. It comes by a hint: the
// standby's next poll is further away.
func TestKilledInAnotherTimeNamespace(t *testing.T) {
	needTimeNamespaces(t)
	var took []time.Duration
	for range 3 {
		p := leasePath(t)
		c := startChild(t, p, inTimeNamespace)
		c.mustSay("join 1h", "owner")
		polls := &pollingStore{}
		o := joinFile(t, p, standby, func(c *Config) {
			watched(c)
			polls.fileStore = c.Store.(*fileStore)
			c.Store = polls
		})
		polls.awaitPause(t, 300*time.Millisecond)
		killed := time.Now()
		c.signal(pidOf(t, p), syscall.SIGKILL)
		<-o.Elected() // the test's time limit ends this
		took = append(took, time.Since(killed))
	}
	t.Log(took)
	if best := slices.Min(took); best > 100*time.Millisecond {
		t.Errorf("the fastest of three takeovers took %v", best)
	}
}

// A pollingStore notes the pause between a standby's last two polls, which grows to a
// second: the next one is not shorter.
type pollingStore struct {
	*fileStore
	last, pause atomic.Int64
}

func (s *pollingStore) Look(ctx context.Context) (View, error) {
	now := int64(s.Now())
	if last := s.last.Swap(now); last > 0 {
		s.pause.Store(now - last)
	}
	return s.fileStore.Look(ctx)
}

func (s *pollingStore) awaitPause(t *testing.T, long time.Duration) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
		if time.Duration(s.pause.Load()) >= long {
			return
		}
	}
	t.Fatalf("the pause between two polls is never %v", long)
}

// The heartbeats of another time namespace cannot be compared with this clock: a stopped
// owner has a successor after its record was observed for a whole TTL, whichever of the
// two clocks is ahead.
func TestStoppedInAnotherTimeNamespace(t *testing.T) {
	needTimeNamespaces(t)
	const ttl = 400 * time.Millisecond
	here := func(*exec.Cmd) {}
	for name, place := range map[string]struct{ owner, standby func(*exec.Cmd) }{
		"the owner":   {inTimeNamespace, here},
		"the standby": {here, inTimeNamespace},
	} {
		t.Run(name, func(t *testing.T) {
			p := leasePath(t)
			a := startChild(t, p, place.owner)
			a.mustSay("join 400ms", "owner")
			b := startChild(t, p, place.standby)
			b.mustSay("stand 400ms", "follower")
			a.mustSay("check", "true")
			pid := pidOf(t, p)
			a.signal(pid, syscall.SIGSTOP)
			rec, err := Inspect(p)
			must(t, err)
			a.say("check") // the first thing that it does when it is resumed
			b.mustSay("elected", "elected")
			if waited := time.Since(rec.RenewedAt); waited < ttl {
				t.Errorf("owned %v after the last heartbeat of an owner with a TTL of %v", waited, ttl)
			}
			a.signal(pid, syscall.SIGCONT)
			if got := a.hear(); got != "false" {
				t.Errorf("after the resume, IsOwner is %s", got)
			}
			b.mustSay("check", "true")
		})
	}
}

// A container is paused by freezing its cgroup: no signal is sent, and its processes stop
// wherever they are. An owner that was frozen for longer than its lease has lost it at
// its first instant after the thaw.
func TestFrozenCgroup(t *testing.T) {
	group := newCgroup(t)
	freeze := func(state string) {
		must(t, os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte(state), 0))
		awaitFile(t, filepath.Join(group, "cgroup.events"), "frozen "+state)
	}
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 300ms", "owner")
	must(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, c.cmd.Process.Pid), 0))
	c.mustSay("hold", "holding")
	freeze("1")
	t.Cleanup(func() { _ = os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte("0"), 0) })
	rec, err := readFile(p)
	must(t, err)
	o := joinFile(t, p, watched, standby)
	<-o.Elected() // the test's time limit ends this
	expiry := rec.Heartbeat + rec.public().TTL
	if s := o.a.snap.Load(); s.from < expiry {
		t.Errorf("owns %v before the frozen owner's lease has expired", expiry-s.from)
	}
	freeze("0")
	if last, err := strconv.ParseInt(c.hear(), 10, 64); err != nil || time.Duration(last) >= expiry {
		t.Errorf("after the thaw, IsOwner was true %v after the lease has expired, %v", time.Duration(last)-expiry, err)
	}
	c.mustSay("lost", "lost")
	if !o.IsOwner() {
		t.Error("the thawed owner has disturbed its successor")
	}
}

// newCgroup makes a cgroup of version 2.
func newCgroup(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes a cgroup: run it as root, with go test -exec sudo -run Cgroup .")
	}
	root := t.TempDir() // a new mount: the usual one may be read-only, or of version 1
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Skipf("needs cgroups of version 2, which cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(root, unix.MNT_DETACH)) })
	group := filepath.Join(root, fmt.Sprint("owner-test-", os.Getpid()))
	if err := os.Mkdir(group, 0o700); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() { // its processes leave it a moment after they were ended
		for start := time.Now(); os.Remove(group) != nil; time.Sleep(time.Millisecond) {
			if time.Since(start) > 10*time.Second {
				t.Errorf("%s cannot be removed", group)
				return
			}
		}
	})
	if _, err := os.Stat(filepath.Join(group, "cgroup.freeze")); err != nil {
		t.Skipf("needs Linux 5.2, whose cgroups can be frozen: %v", err)
	}
	return group
}

// FUSE may be a network file system, or a folder of the host's: its locks cannot be
// trusted, and no file is left there.
func TestFUSEIsRefused(t *testing.T) {
	for _, tool := range []string{"bindfs", "umount"} {
		if _, err := exec.LookPath(tool); err != nil || os.Geteuid() != 0 {
			t.Skipf("mounts a folder with bindfs: run it as root, with bindfs installed (Debian: apt-get install bindfs): %v", err)
		}
	}
	behind, mount := t.TempDir(), t.TempDir()
	if out, err := exec.Command("bindfs", behind, mount).CombinedOutput(); err != nil {
		t.Skipf("needs /dev/fuse, which this machine does not give: %v: %s", err, out)
	}
	t.Cleanup(func() { run(t, "umount", "--lazy", mount) })
	if _, err := tryJoin(t, filepath.Join(mount, "x.lease")); !errors.Is(err, ErrUnsupportedFilesystem) || !strings.Contains(err.Error(), "FUSE") {
		t.Errorf("joined on FUSE: %v", err)
	}
	if left, err := os.ReadDir(behind); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
