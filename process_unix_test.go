//go:build unix

package owner

import (
	"errors"
	"fmt"
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

// Each owner is killed, and one of the standbys takes over, again and again.
func TestKillsInALoop(t *testing.T) {
	p := leasePath(t)
	children := make([]*child, 8)
	for i := range children {
		children[i] = startChild(t, p)
		children[i].mustSay("stand 1h", "")
	}
	last := uint64(0)
	for range children[1:] {
		i := ownerAmong(t, p, children)
		rec, err := Inspect(p)
		must(t, err)
		if rec.Epoch <= last {
			t.Fatalf("epoch %d after %d", rec.Epoch, last)
		}
		last = rec.Epoch
		must(t, children[i].cmd.Process.Kill())
		_ = children[i].cmd.Wait()
		children = append(children[:i:i], children[i+1:]...)
	}
	ownerAmong(t, p, children)
}

// ownerAmong waits until one of the children owns, and demands that no other does.
// The limit is only there to end a hang.
func ownerAmong(t *testing.T, p string, children []*child) int {
	t.Helper()
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(time.Millisecond) {
		owners := []int{}
		for i, c := range children {
			if c.ask("check") == "true" {
				owners = append(owners, i)
			}
		}
		if len(owners) > 1 {
			t.Fatalf("%d own", len(owners))
		}
		if len(owners) == 1 {
			return owners[0]
		}
	}
	st, err := Probe(p)
	t.Fatalf("none owns: %+v, %v", st, err)
	return 0
}

// A challenger that is stopped inside the guard blocks other acquisitions, which get an
// error, and no renewal. Its death frees the guard.
func TestStoppedInTheGuard(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	c := startChild(t, p)
	c.mustSay("guard", "locked")
	c.stop()
	must(t, o.a.lease.Renew(t.Context(), o.a.store.Now()))
	must(t, o.Release())
	_, err := tryJoin(t, p, func(c *Config) { c.TTL = 200 * time.Millisecond })
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), leasename.Guard(p)) {
		t.Errorf("joined past a guard that is held: %v", err)
	}
	must(t, c.cmd.Process.Kill())
	awaitOwner(t, p, time.Minute)
}

// The same, but it is resumed: what it wins by then is too late, or its own.
func TestStoppedAndResumedInTheGuard(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("guard", "locked")
	c.stop()
	if _, err := tryJoin(t, p, func(c *Config) { c.TTL = 100 * time.Millisecond }); err == nil {
		t.Error("joined past a guard that is held")
	}
	must(t, c.cmd.Process.Signal(syscall.SIGCONT))
	c.mustSay("unguard", "unlocked")
	awaitOwner(t, p, time.Minute)
}

// A process that starts others all the time copies its descriptors with each: a
// release, and its death, free the lease all the same.
func TestForkStorm(t *testing.T) {
	for _, end := range []string{"release", "kill"} {
		t.Run(end, func(t *testing.T) {
			p := leasePath(t)
			c := startChild(t, p)
			c.mustSay("join 1h", "owner")
			c.mustSay("forks", "forking")
			for range 20 { // while it forks
				c.mustSay("check", "true")
			}
			if end == "kill" {
				must(t, c.cmd.Process.Kill())
				awaitOwner(t, p, time.Hour)
				return
			}
			c.mustSay("release", "released <nil>")
			if o := joinFile(t, p); !o.IsOwner() {
				t.Errorf("held after the release by %+v", o.Holder())
			}
		})
	}
}

// A cleaner of temporary files removes each file in turn from a live owner, while others
// contend. Whatever the order, there are never two, and in the end there is one.
func TestCleaner(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2, 3}, {0, 2, 3, 1}, {1, 0, 3, 2}, {1, 3, 2, 0}, {2, 0, 1, 3}, {3, 2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			p := leasePath(t)
			children := []*child{startChild(t, p), startChild(t, p)}
			for _, c := range children {
				c.mustSay("stand 500ms", "")
			}
			for _, n := range order {
				ownerAmong(t, p, children)
				rec, err := Inspect(p)
				must(t, err)
				must(t, os.Remove([]string{p, leasename.Guard(p), leasename.Alive(p, rec.InstanceID), leasename.Last(p)}[n]))
				awaitMended(t, p, rec)
			}
			ownerAmong(t, p, children)
		})
	}
}

// awaitMended waits until the owner has renewed, or another owns, and until the owner's
// files are all in place: the heartbeat is written before they are put back.
func awaitMended(t *testing.T, p string, was Record) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(time.Millisecond) {
		rec, err := readFile(p)
		if err != nil || rec == nil || rec.Epoch == was.Epoch && !rec.RenewedAt.After(was.RenewedAt) {
			continue
		}
		alive, err := os.Stat(leasename.Alive(p, rec.InstanceID))
		last, lastErr := os.Stat(leasename.Last(p))
		if err == nil && lastErr == nil && os.SameFile(alive, last) && alive.Sys().(*syscall.Stat_t).Ino == rec.Alive {
			return
		}
	}
	t.Fatal("the lease is not in order again")
}

// An owner has opened what it needs: permissions that are revoked later cost it nothing.
func TestPermissionsTakenAway(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may do everything: run the tests as another user to see this one")
	}
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, os.Chmod(p, 0), os.Chmod(leasename.Guard(p), 0))
	must(t, o.a.lease.Renew(t.Context(), o.a.store.Now()))
	if _, err := tryJoin(t, p); err == nil {
		t.Error("joined without a permission")
	}
	must(t, o.Release(), os.Chmod(p, 0o600), os.Chmod(leasename.Guard(p), 0o600))
	if !joinFile(t, p).IsOwner() {
		t.Error("not free afterwards")
	}
}
