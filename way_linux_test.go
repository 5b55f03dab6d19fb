package owner

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The path of a lease now leads to another folder, where another instance can own at
// once: the owner gets a hint from the kernel, and does not continue until its next
// renewal, which would come in 20 s.
func TestPathLeadsElsewhere(t *testing.T) {
	for name, turn := range map[string]func(t *testing.T, top string){
		"a folder above is renamed": func(t *testing.T, top string) {
			must(t, os.Rename(filepath.Join(top, "a"), filepath.Join(top, "moved")), os.MkdirAll(filepath.Join(top, "a", "b"), 0o700))
		},
		"a file system is mounted over one": func(t *testing.T, top string) {
			if os.Geteuid() != 0 {
				t.Skip("mounts a file system: run it as root, with go test -exec sudo -run TestPathLeads .")
			}
			over := filepath.Join(top, "a")
			if err := unix.Mount("none", over, "tmpfs", 0, ""); err != nil {
				t.Skipf("root cannot mount on this machine: %v", err)
			}
			t.Cleanup(func() { _ = exec.Command("umount", "--lazy", over).Run() })
			must(t, os.MkdirAll(filepath.Join(top, "a", "b"), 0o700))
		},
		"a link is turned": func(t *testing.T, top string) {
			must(t, os.MkdirAll(filepath.Join(top, "other", "b"), 0o700), os.Rename(filepath.Join(top, "a"), filepath.Join(top, "one")),
				os.Symlink("other", filepath.Join(top, "a")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(top, "a", "b"), 0o700))
			p := filepath.Join(top, "a", "b", "x.lease")
			o := joinFile(t, p, func(c *Config) { c.LeasePath = p; watched(c) })
			start := time.Now()
			turn(t, top)
			select {
			case <-o.Lost():
			case <-time.After(10 * time.Second):
				t.Fatal("still owns, and does not know")
			}
			t.Logf("lost after %v", time.Since(start))
			if !errors.Is(o.LostErr(), ErrRevoked) {
				t.Error(o.LostErr())
			}
			if !joinFile(t, p).IsOwner() {
				t.Error("the lease at the path is not free")
			}
		})
	}
}
