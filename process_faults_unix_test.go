//go:build unix

package owner

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/leasename"
)

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
