package owner

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/leasename"
)

// afterReboot starts a child for which the machine has been booted again: another id of
// the boot is mounted over the kernel's, in a new mount namespace.
func afterReboot(t *testing.T, path string) *child {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs a mount namespace: run it as root, with go test -exec sudo -run TestReboot .")
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		t.Skipf("needs unshare and mount namespaces (Debian: apt-get install util-linux): %v: %s", err, out)
	}
	id := filepath.Join(t.TempDir(), "boot_id")
	must(t, os.WriteFile(id, []byte(uuid.NewString()+"\n"), 0o644))
	return startCommand(t, exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$1" /proc/sys/kernel/random/boot_id && exec "$0"`, os.Args[0], id), path)
}

// Power is cut, and at boot a cleaner takes the owner's alive files: its record alone
// keeps the lease from none, not even from a process that does not wait.
func TestRebootFreesTheLease(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 1h", "owner")
	rec, err := Inspect(p)
	must(t, err, c.cmd.Process.Kill())
	_ = c.cmd.Wait()
	must(t, os.Remove(leasename.Alive(p, rec.InstanceID)), os.Remove(leasename.Last(p)))
	if o := joinFile(t, p); o.IsOwner() {
		t.Error("within the same boot, a record that has not expired is no longer heeded")
	}
	if st, err := Probe(p); err != nil || st.Condition != Unconfirmed {
		t.Errorf("within the same boot: %+v, %v", st, err)
	}
	afterReboot(t, p).mustSay("join 1h", "owner")
}

// A locked file of another boot is a live owner's: whatever the ids say, its process
// exists.
func TestRebootOfALiveOwner(t *testing.T) {
	p := leasePath(t)
	c := startChild(t, p)
	c.mustSay("join 1h", "owner")
	rec, err := Inspect(p)
	must(t, err)
	must(t, c.cmd.Process.Signal(syscall.SIGSTOP)) // else it puts the file back
	must(t, os.Remove(leasename.Alive(p, rec.InstanceID)))
	afterReboot(t, p).mustSay("join 1h", "follower")
	must(t, c.cmd.Process.Signal(syscall.SIGCONT))
}
