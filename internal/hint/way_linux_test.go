package hint

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The path now leads elsewhere, and nothing happens in the folder itself.
func TestWayTurned(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, top string) // makes top/a/b/dir
		turn    func(t *testing.T, top string)
	}{
		"a folder above is renamed": {plainWay, func(t *testing.T, top string) {
			must(t, os.Rename(filepath.Join(top, "a"), filepath.Join(top, "moved")))
		}},
		"the folder's parent is renamed": {plainWay, func(t *testing.T, top string) {
			must(t, os.Rename(filepath.Join(top, "a", "b"), filepath.Join(top, "a", "moved")))
		}},
		"a link on the way is turned":  {linkedWay, turnLink},
		"a link on the way is removed": {linkedWay, func(t *testing.T, top string) { must(t, os.Remove(filepath.Join(top, "a"))) }},
		"the target of a link is moved": {linkedWay, func(t *testing.T, top string) {
			must(t, os.Rename(filepath.Join(top, "one"), filepath.Join(top, "moved")))
		}},
		"a link behind a link is turned": {func(t *testing.T, top string) {
			linkedWay(t, top)
			must(t, os.Rename(filepath.Join(top, "a"), filepath.Join(top, "link")))
			must(t, os.Symlink("link", filepath.Join(top, "a")))
		}, func(t *testing.T, top string) {
			must(t, os.Symlink("two", filepath.Join(top, "new")))
			must(t, os.Rename(filepath.Join(top, "new"), filepath.Join(top, "link")))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			top := folderOf(t)
			tc.prepare(t, top)
			l := listenFile(t, filepath.Join(top, "a", "b", "dir", "lease"))
			// Changes inside the folders above give no hint.
			passed := fence(t, filepath.Join(top, "a", "b", "dir"))
			write(t, filepath.Join(top, "file"))
			write(t, filepath.Join(top, "a", "b", "file"))
			must(t, os.Mkdir(filepath.Join(top, "a", "folder"), 0o700))
			passed()
			if len(l.hints) > 0 {
				t.Error("a hint of what happens beside the way")
			}
			tc.turn(t, top)
			l.wait(t)
		})
	}
}

func plainWay(t *testing.T, top string) {
	must(t, os.MkdirAll(filepath.Join(top, "a", "b", "dir"), 0o700))
}

func linkedWay(t *testing.T, top string) {
	for _, to := range []string{"one", "two"} {
		must(t, os.MkdirAll(filepath.Join(top, to, "b", "dir"), 0o700))
	}
	must(t, os.Symlink("one", filepath.Join(top, "a")))
}

func turnLink(t *testing.T, top string) {
	must(t, os.Symlink("two", filepath.Join(top, "new")))
	must(t, os.Rename(filepath.Join(top, "new"), filepath.Join(top, "a")))
}

// The other tests get no hints of mounts: tests of other packages mount disks meanwhile.
func init() { mountInfo = "" }

// withMounts gives a test the hints of mounts.
func withMounts(t *testing.T) {
	mountInfo = "/proc/self/mountinfo"
	t.Cleanup(func() { mountInfo = "" })
}

// A file system is mounted over a folder on the way, and taken away again.
func TestWayMountedOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: run it as root, with go test -exec sudo -run TestWay ./internal/hint")
	}
	withMounts(t)
	noLeak(t)
	top := folderOf(t)
	plainWay(t, top)
	l := listenFile(t, filepath.Join(top, "a", "b", "dir", "lease"))
	over := filepath.Join(top, "a")
	if err := unix.Mount("none", over, "tmpfs", 0, ""); err != nil {
		t.Skipf("root cannot mount on this machine: %v", err)
	}
	defer exec.Command("umount", "--lazy", over).Run()
	l.wait(t)
	l.drain()
	must(t, unix.Unmount(over, unix.MNT_DETACH))
	l.wait(t)
}

// Leases of one folder share its way; the last one ends the watches of it.
func TestWayIsShared(t *testing.T) {
	noLeak(t)
	top := folderOf(t)
	plainWay(t, top)
	other := filepath.Join(top, "a", "other")
	must(t, os.Mkdir(other, 0o700))
	b := listenFile(t, filepath.Join(top, "a", "b", "dir", "lease"))
	before := watches(t)
	a := listenFile(t, filepath.Join(top, "a", "lease")) // a step of the other's way
	o := listenFile(t, filepath.Join(other, "lease"))
	a.stop()
	o.stop()
	if n := watches(t); n != before {
		t.Errorf("%d watches, %d before", n, before)
	}
	must(t, os.Rename(filepath.Join(top, "a"), filepath.Join(top, "moved")))
	b.wait(t)
}
