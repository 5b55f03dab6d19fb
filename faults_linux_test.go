package owner

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/leasename"
)

// Faults of a real file system, on a loop device.

// loopFS mounts a small ext4, and returns its folder.
func loopFS(t *testing.T, options ...string) string {
	t.Helper()
	return loopOf(t, "ext4", 16<<20, append(options, "-q")...)
}

// loopOf mounts a file system of a kind, made with mkfs's options.
func loopOf(t *testing.T, kind string, size int64, options ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: run it as root, with go test -exec sudo -run TestDisk .")
	}
	for _, tool := range []string{"mkfs." + kind, "mount", "umount", "fsfreeze"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian: apt-get install e2fsprogs btrfs-progs mount util-linux): %v", tool, err)
		}
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, size))
	run(t, "mkfs."+kind, append(options, image)...)
	mount := "loop"
	if kind == "ext4" {
		mount += ",errors=remount-ro"
	}
	if out, err := exec.Command("mount", "-o", mount, image, dir).CombinedOutput(); err != nil {
		t.Skipf("needs loop devices, which this machine does not give: %v: %s", err, out)
	}
	t.Cleanup(func() { run(t, "umount", "--lazy", dir) })
	return dir
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// Renewals allocate nothing: a full disk costs no ownership. Nor does it prevent a
// release.
func TestDiskFull(t *testing.T) {
	t.Run("ext4", func(t *testing.T) { fullDisk(t, loopFS(t)) })
	t.Run("btrfs", func(t *testing.T) { fullDisk(t, loopOf(t, "btrfs", 128<<20, "-q")) })
}

func fullDisk(t *testing.T, dir string) {
	p := filepath.Join(dir, "x.lease")
	o := joinFile(t, p)
	filler, err := os.Create(filepath.Join(filepath.Dir(p), "filler"))
	must(t, err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 1<<20))
	}
	for err = nil; err == nil; { // to the last block
		_, err = filler.Write([]byte("x"))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for range 100 {
		must(t, o.a.lease.Renew(t.Context(), clock.Now()))
	}
	// An advertisement works, or fails and leaves the record as it was.
	before := o.Endpoint()
	if err := o.Advertise(t.Context(), "unix:/run/"+strings.Repeat("long", 100), nil); err != nil && (!errors.Is(err, syscall.ENOSPC) || o.Endpoint() != before) {
		t.Errorf("advertising on a full disk: %v", err)
	}
	if r, err := Inspect(p); err != nil || r.Meta[EndpointMetaKey] != o.Endpoint() {
		t.Errorf("after advertising: %+v, %v", r, err)
	}
	must(t, o.a.lease.Renew(t.Context(), clock.Now()))
	must(t, o.Release())
	if r, err := Inspect(p); err != nil || !r.Released {
		t.Errorf("after the release: %+v, %v", r, err)
	}
	if _, err := tryJoin(t, p); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("joining on a full disk: %v", err)
	}
	// Whatever that has ended in: with room again, the lease is free.
	must(t, filler.Truncate(0))
	awaitOwner(t, p, time.Minute)
}

// No inode is left: renewals need none, nor does a release; Join gets an error.
func TestDiskWithoutInodes(t *testing.T) {
	p := filepath.Join(loopFS(t, "-N", "64"), "x.lease")
	o := joinFile(t, p)
	var fillers []string
	for {
		name := fmt.Sprintf("%s.filler%d", p, len(fillers))
		if err := os.WriteFile(name, nil, 0o600); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		fillers = append(fillers, name)
	}
	must(t, o.a.lease.Renew(t.Context(), clock.Now()), o.Release())
	must(t, os.WriteFile(fillers[0]+"x", nil, 0o600)) // the alive file's inode
	if _, err := tryJoin(t, p); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("joined without an inode: %v", err)
	}
	for _, name := range fillers {
		must(t, os.Remove(name))
	}
	if next := joinFile(t, p); !next.IsOwner() || next.Epoch() <= o.Epoch() {
		t.Errorf("with inodes again: %+v after epoch %d", next.Holder(), o.Epoch())
	}
}

// On a frozen disk, no standby in another process comes to own; when it is
// back, one does, and the lost owner does not.
func TestDiskFrozenBeforeFollowers(t *testing.T) {
	dir := loopFS(t)
	p := filepath.Join(dir, "x.lease")
	const ttl = 400 * time.Millisecond
	o := joinFile(t, p, func(c *Config) { c.TTL = ttl })
	c := startChild(t, p)
	c.mustSay("stand 400ms", "follower")
	thaw := freeze(t, dir)
	<-o.Lost()
	c.mustSay("check", "false")
	thaw()
	c.mustSay("elected", "elected")
	if o.IsOwner() {
		t.Error("two own")
	}
}

// freeze freezes the file system of a folder, until the function is called or the
// test ends.
func freeze(t *testing.T, dir string) (thaw func()) {
	t.Helper()
	run(t, "fsfreeze", "--freeze", dir)
	thaw = sync.OnceFunc(func() { run(t, "fsfreeze", "--unfreeze", dir) })
	t.Cleanup(thaw)
	return thaw
}

// Every write hangs, and cannot be interrupted. The loss still comes on time, a release
// returns, and when the disk is back nothing has been damaged.
func TestDiskFrozen(t *testing.T) {
	dir := loopFS(t)
	const ttl = 400 * time.Millisecond
	lost := joinFile(t, filepath.Join(dir, "lost.lease"), func(c *Config) { c.TTL = ttl })
	released := joinFile(t, filepath.Join(dir, "released.lease"), func(c *Config) { c.TTL = ttl })
	thaw := freeze(t, dir)

	if err := released.Release(); err == nil {
		t.Error("gave a lease up on a frozen disk")
	}
	<-lost.Lost()
	var why *LostError
	if !errors.As(lost.LostErr(), &why) || !errors.Is(why, ErrExpired) {
		t.Fatalf("lost by %v", lost.LostErr())
	}
	// The file is not read here: the store's clock decides, and a loss after the expiry
	// would be too late.
	if why.SinceRenewal >= ttl {
		t.Errorf("lost %v after the last renewal, with a TTL of %v", why.SinceRenewal, ttl)
	}
	<-lost.Done()
	thaw()
	awaitOwner(t, filepath.Join(dir, "lost.lease"), time.Minute)
	awaitOwner(t, filepath.Join(dir, "released.lease"), time.Minute)
}

// A disk with errors, which the kernel then makes read-only.
func TestDiskReadOnly(t *testing.T) {
	dir := loopFS(t)
	p := filepath.Join(dir, "x.lease")
	o := joinFile(t, p, func(c *Config) { c.TTL = time.Second })
	device, err := exec.Command("findmnt", "--noheadings", "--output", "SOURCE", dir).Output()
	must(t, err)
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(device))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("test"), 0); err != nil {
		t.Skipf("the kernel cannot be asked for an error: %v", err)
	}
	<-o.Lost()
	if !errors.Is(o.LostErr(), ErrExpired) || !errors.Is(o.LostErr(), syscall.EROFS) {
		t.Errorf("LostErr: %v", o.LostErr())
	}
	if _, err := tryJoin(t, filepath.Join(dir, "y.lease")); !errors.Is(err, syscall.EROFS) {
		t.Errorf("joining on a read-only file system: %v", err)
	}
}

// In a folder like /tmp, Linux refuses O_CREAT for a file of another user, even
// to root, though the file is there and could be opened.
func TestOtherUsersGuardInStickyFolder(t *testing.T) {
	if protected, err := os.ReadFile("/proc/sys/fs/protected_regular"); err != nil || strings.TrimSpace(string(protected)) == "0" {
		t.Skip("needs fs.protected_regular: sysctl fs.protected_regular=1")
	}
	if os.Geteuid() != 0 {
		t.Skip("gives a file to another user: run it as root, with go test -exec sudo -run TestOtherUsers .")
	}
	p := leasePath(t)
	must(t, joinFile(t, p).Release())
	must(t, os.Chmod(filepath.Dir(p), os.ModeSticky|0o777), os.Chown(filepath.Dir(p), 65533, -1), os.Chown(leasename.Guard(p), 65534, -1))
	if !joinFile(t, p).IsOwner() {
		t.Error("not the owner")
	}
}

func TestNoDescriptorStaysOpen(t *testing.T) {
	p := leasePath(t)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(fds)
	}
	before := open()
	for range 20 {
		o := joinFile(t, p)
		for range 5 {
			if joinFile(t, p).IsOwner() {
				t.Fatal("two owners")
			}
		}
		must(t, o.Release())
		<-o.Done()
	}
	if after := open(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
