//go:build unix

package owner

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/leasename"
)

// A zombie holds no locks: the death counts, not the funeral.
func TestZombieOwner(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 1h", "owner")
	must(t, c.cmd.Process.Kill())
	if c.out.Scan() { // its output ends with it
		t.Fatal(c.out.Text())
	}
	awaitOwner(t, p, time.Hour) // the process was not waited for
}

// A process that the owner has started must not inherit the lock.
func TestOwnersChildOutlivesIt(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 1h", "owner")
	c.mustSay("spawn", "spawned")
	must(t, c.cmd.Process.Kill())
	_ = c.cmd.Wait()
	awaitOwner(t, p, time.Hour)
}

// awaitOwner joins until it owns. The limit is only there to end a hang.
func awaitOwner(t *testing.T, p string, ttl time.Duration) *Owner {
	t.Helper()
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
		if o := joinFile(t, p, func(c *Config) { c.TTL = ttl }); o.IsOwner() {
			return o
		}
	}
	t.Fatal("never free")
	return nil
}

// stop stops the child, and returns when it has stopped.
func (c *child) stop() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		c.t.Fatalf("not stopped: %v, %v", status, err)
	}
}

// An owner that was stopped for longer than its lease does not own from its first instant
// on, before anything could notify it; and another owns by then.
func TestStoppedOwner(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 300ms", "owner")
	c.mustSay("check", "true")
	c.stop()
	c.say("check") // the first thing that it does when it is resumed
	o := awaitOwner(t, p, time.Minute)
	must(t, c.cmd.Process.Signal(syscall.SIGCONT))
	if got := c.hear(); got != "false" {
		t.Errorf("after the resume, IsOwner is %s", got)
	}
	if lost := c.ask("lost"); !strings.Contains(lost, ErrExpired.Error()) && !strings.Contains(lost, ErrTakenOver.Error()) {
		t.Errorf("lost by %s", lost)
	}
	if !o.IsOwner() || o.a.lease.Renew(t.Context(), o.a.store.Now()) != nil {
		t.Error("the resumed owner has disturbed its successor")
	}
}

func TestStoppedForLessThanItsLease(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 1m", "owner")
	c.stop()
	if joinFile(t, p).IsOwner() {
		t.Error("took over from a stopped owner within its lease")
	}
	must(t, c.cmd.Process.Signal(syscall.SIGCONT))
	c.mustSay("check", "true")
}

func TestFIFOs(t *testing.T) {
	for _, name := range []string{"x.lease", "x.lease.lock"} {
		d := t.TempDir()
		must(t, syscall.Mkfifo(filepath.Join(d, name), 0o600))
		if _, err := tryJoin(t, filepath.Join(d, "x.lease")); !errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), "FIFO") {
			t.Errorf("a FIFO as %s: %v", name, err)
		}
	}
}

func TestLinkAsGuard(t *testing.T) {
	p := leasePath(t)
	must(t, os.Symlink("/dev/null", leasename.Guard(p)))
	if _, err := tryJoin(t, p); !errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), "link") {
		t.Error(err)
	}
}

func TestNoPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may do everything: run the tests as another user to see this one")
	}
	p := leasePath(t)
	must(t, os.Chmod(filepath.Dir(p), 0o500))
	if _, err := tryJoin(t, p); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a read-only folder: %v", err)
	}
	must(t, os.Chmod(filepath.Dir(p), 0o700))
	o := joinFile(t, p)
	must(t, os.Chmod(p, 0))
	if _, err := tryJoin(t, p); !errors.Is(err, os.ErrPermission) {
		t.Errorf("an unreadable record: %v", err)
	}
	if err := o.a.lease.Renew(t.Context(), o.a.store.Now()); err != nil {
		t.Errorf("the owner's renewal needs a permission that it had: %v", err)
	}
}

// A stopped owner's lease is acquired when it has expired, and not before; when it is
// resumed, it is fenced.
func TestStandbyAfterAStop(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 300ms", "owner")
	next := joinFile(t, p, watched, standby)
	c.stop()
	c.say("check")
	rec, err := readFile(p)
	must(t, err)
	<-next.Elected()
	if s := next.a.snap.Load(); s.from < rec.Heartbeat+rec.public().TTL {
		t.Errorf("owns %v before the stopped owner's lease has expired", rec.Heartbeat+rec.public().TTL-s.from)
	}
	must(t, c.cmd.Process.Signal(syscall.SIGCONT))
	if got := c.hear(); got != "false" {
		t.Errorf("after the resume, IsOwner is %s", got)
	}
}
