//go:build unix

package owner

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// Several users and one lease, each with its own processes.

// A user needs no entry in the system's list of users.
type user struct {
	id     uint32
	groups []uint32
}

const team = 30_000

var (
	alice = user{20_001, []uint32{team}}
	bob   = user{20_002, []uint32{team}}
	carol = user{20_003, nil}
)

// sharedFolder returns the path of a lease in a folder of alice's and the team's, and
// what starts a process of a user with a FileMode.
func sharedFolder(t *testing.T, perm fs.FileMode) (path string, as func(u user, mode string) *child) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("runs processes of other users: run it as root, with go test -exec sudo -run TestUsers .")
	}
	dir, err := os.MkdirTemp("", "users")
	must(t, err, os.Chmod(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.ReadFile(os.Args[0]) // which lies where others may not go
	must(t, err)
	program, leases := filepath.Join(dir, "program"), filepath.Join(dir, "leases")
	must(t, os.WriteFile(program, self, 0o755), os.Chmod(program, 0o755))
	must(t, os.Mkdir(leases, 0o700), os.Chown(leases, int(alice.id), team), os.Chmod(leases, perm))
	path = filepath.Join(leases, "x.lease")
	return path, func(u user, mode string) *child {
		t.Helper()
		cmd := exec.Command(program)
		cmd.Env = []string{childModeEnv + "=" + mode}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.id, Gid: u.id, Groups: u.groups}}
		return startCommand(t, cmd, path)
	}
}

// kill ends the child as the kernel does, and returns when it has ended.
func (c *child) kill() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Kill())
	_ = c.cmd.Wait()
}

// has checks which users may use a file.
func has(t *testing.T, path string, u user, group uint32, perm fs.FileMode) {
	t.Helper()
	a, err := disk.OS.Access(path)
	must(t, err)
	if a != (disk.Access{Perm: perm, UID: int(u.id), GID: int(group)}) {
		t.Errorf("%s: %+v, want user %d, group %d, mode %#o", filepath.Base(path), a, u.id, group, perm)
	}
}

// aliveFiles are those that are beside the record.
func aliveFiles(t *testing.T, path string) []string {
	t.Helper()
	names, err := filepath.Glob(path + ".*" + leasename.AliveSuffix)
	must(t, err)
	return names
}

// Users who may only read can follow, probe and watch, and notice the owner's death; they
// cannot change what decides the ownership.
func TestUsersFollow(t *testing.T) {
	path, as := sharedFolder(t, 0o755)
	owner, reader := as(alice, "0644"), as(carol, "0644")
	owner.mustSay("join 1m", "owner")
	has(t, path, alice, team, 0o644)
	has(t, leasename.Guard(path), alice, alice.id, 0o600)
	has(t, aliveFiles(t, path)[0], alice, team, 0o644)
	reader.mustSay("join 1m", "follower")
	if got, want := reader.ask("follows"), endpointOf(owner.cmd.Process.Pid); !strings.HasSuffix(got, want) {
		t.Errorf("follows %s, want %s", got, want)
	}
	reader.mustSay("probe", "live")
	if got := reader.ask("watch"); strings.HasPrefix(got, "0 ") || !strings.HasSuffix(got, "<nil>") {
		t.Errorf("watches %s", got)
	}
	if got := reader.ask("revoke"); !strings.Contains(got, "may at most follow") {
		t.Errorf("revoke: %s", got)
	}
	if got := reader.ask("lock " + leasename.Guard(path)); !strings.Contains(got, "permission denied") {
		t.Errorf("a reader's lock of the guard: %s", got)
	}
	owner.kill()
	reader.mustSay("probe", "dead")
	if got := reader.ask("join 1m"); !strings.HasPrefix(got, "error") || !strings.Contains(got, "may at most follow") {
		t.Errorf("joining a free lease: %s", got)
	}
	as(alice, "0644").mustSay("join 1m", "owner")
}

// Two users take over from each other, whatever their umask is; the third may do nothing.
func TestUsersTakePart(t *testing.T) {
	path, as := sharedFolder(t, 0o770)
	old := syscall.Umask(0o077) // for those that are started here
	a, b := as(alice, "0660"), as(bob, "0660")
	syscall.Umask(old)
	a.mustSay("join 1m", "owner")
	b.mustSay("join 1m", "follower")
	a.kill()
	b.mustSay("join 1m", "owner")
	has(t, path, bob, team, 0o660)
	has(t, aliveFiles(t, path)[0], bob, team, 0o660)
	has(t, leasename.Guard(path), alice, team, 0o660)
	c := as(carol, "0660")
	if got := c.ask("join 1m"); !strings.Contains(got, "permission denied") {
		t.Errorf("a user of no group: %s", got)
	}
	again := as(alice, "0660")
	again.mustSay("stand 1s", "follower")
	b.kill()
	again.mustSay("elected", "elected")
	next := as(bob, "0660")
	next.mustSay("revoke", "<nil>")
	next.mustSay("join 1m", "owner")
	if names := aliveFiles(t, path); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// A user who takes part in another user's folder gets an error before anything is made.
func TestUsersFolderRefuses(t *testing.T) {
	path, as := sharedFolder(t, 0o750)
	if got := as(alice, "0660").ask("join 1m"); !strings.Contains(got, "lets none of them write") {
		t.Errorf("a mode that the folder contradicts: %s", got)
	}
	if got := as(bob, "").ask("join 1m"); !strings.Contains(got, "permission") {
		t.Errorf("a folder that is not to be written: %s", got)
	}
	if left, _ := filepath.Glob(path + "*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// A file that can be read can be locked. So a reader can make a dead owner seem alive,
// but no longer than until its lease has expired.
func TestUsersReaderLocksAliveFile(t *testing.T) {
	path, as := sharedFolder(t, 0o755)
	owner, reader := as(alice, "0644"), as(carol, "0644")
	owner.mustSay("join 1s", "owner")
	alive := aliveFiles(t, path)[0]
	reader.mustSay("lock "+alive, "false")
	owner.stop() // so that its last renewal is known
	rec, err := readFile(path)
	must(t, err)
	owner.kill()
	reader.mustSay("lock "+alive, "true")
	next := as(alice, "0644")
	next.mustSay("stand 1s", "follower")
	answer := strings.Fields(next.ask("elected"))
	at, err := time.ParseDuration(answer[1] + "ns")
	must(t, err)
	if late := at - rec.Heartbeat - rec.public().TTL; late < 0 || late > 5*time.Second {
		t.Errorf("owns %v after the lease has expired", late)
	}
	reader.mustSay("lock "+leasename.Last(path), "false") // the new owner's
}

// One run by root, in the lease of a user or in the user's folder, locks the user out
// of nothing.
func TestUsersRootTakesOver(t *testing.T) {
	root := user{0, nil}
	for _, first := range []user{alice, root} {
		path, as := sharedFolder(t, 0o700)
		c := as(first, "")
		c.mustSay("join 1m", "owner")
		c.kill()
		c = as(root, "")
		c.mustSay("join 1m", "owner")
		for _, name := range append(aliveFiles(t, path), path, leasename.Guard(path)) {
			if a, err := disk.OS.Access(name); err != nil || a.UID != int(alice.id) || a.Perm != 0o600 {
				t.Errorf("%s after root: %+v, %v", name, a, err)
			}
		}
		as(alice, "").mustSay("join 1m", "follower")
		c.kill()
		as(alice, "").mustSay("join 1s", "owner")
		if _, err := Revoke(context.Background(), path); err != nil { // by root
			t.Error(err)
		}
		as(alice, "").mustSay("join 1m", "owner")
	}
}

// A standby that may not acquire the lease reports it, once, and does not spin.
func TestUsersStandbyRefused(t *testing.T) {
	_, as := sharedFolder(t, 0o755)
	owner, reader := as(alice, "0644"), as(carol, "0644")
	owner.mustSay("join 1m", "owner")
	reader.mustSay("stand 1m", "follower")
	owner.kill()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		got := reader.ask("why")
		if strings.Contains(got, "may at most follow") {
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("a standby that may not take the lease: %s", got)
		}
	}
	as(alice, "0644").mustSay("join 1m", "owner")
}

// The same refusal again and again is news once.
func TestFailedAttemptsAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	n := &notices{logger: slog.New(slog.NewTextHandler(&log, nil))}
	fail := func(err error) {
		n.log(Transition{From: StateAcquiring, To: StateFollower, Event: string(evFailed), Err: err}, "", "", 0, 0)
		n.log(Transition{From: StateFollower, To: StateAcquiring, Event: string(evAcquire)}, "", "", 0, 0)
	}
	for range 3 {
		fail(fs.ErrPermission)
	}
	fail(errors.New("another"))
	fail(fs.ErrPermission)
	if n := strings.Count(log.String(), "WARN"); n != 3 {
		t.Errorf("%d warnings, want 3:\n%s", n, log.String())
	}
}

// A machine on which something happens before a file is renamed to a path, and before
// the guard beside it gets its name.
type beforeReplace struct {
	host
	to   string
	do   func()
	made func(guard string)
}

func (m beforeReplace) Link(path, second string) error {
	if second == leasename.Guard(m.to) {
		m.made(path)
	}
	return m.host.Link(path, second)
}

func (m beforeReplace) Replace(from, to string) error {
	if to == m.to {
		m.do()
	}
	return m.host.Replace(from, to)
}

// Followers may not lock the alive file of an owner that has no record yet: that lock
// would keep the lease for as long as they like.
func TestAliveFileOpensLast(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o644, 0o640, 0o666} {
		p := leasePath(t)
		must(t, os.Chmod(filepath.Dir(p), 0o777))
		looked := false
		m := beforeReplace{thisHost{disk.OS}, p, func() {
			looked = true
			for _, name := range []string{aliveFiles(t, p)[0], leasename.Last(p), leasename.Guard(p)} {
				if a, err := disk.OS.Access(name); err != nil || a.Perm != participants(mode) {
					t.Errorf("%#o: before the record is there, %s has %#o, %v", mode, name, a.Perm, err)
				}
			}
			temps, _ := filepath.Glob(p + ".*.tmp")
			if a, err := disk.OS.Access(temps[0]); err != nil || a.Perm != mode {
				t.Errorf("%#o: before the record is there, it has %#o, %v", mode, a.Perm, err)
			}
		}, func(guard string) {
			// Else a process that is killed here leaves one that the others cannot open.
			if a, err := disk.OS.Access(guard); err != nil || a.Perm != participants(mode) {
				t.Errorf("%#o: the guard that is being made has %#o, %v", mode, a.Perm, err)
			}
		}}
		s := &fileStore{process: &process{host: m}, path: p, mode: mode}
		o := joinFile(t, p, func(c *Config) { c.Store = unwatchedStore{s} })
		if !looked || !o.IsOwner() {
			t.Fatal("nothing was published")
		}
		for range 2 {
			alive := aliveFiles(t, p)[0]
			for _, name := range []string{alive, p} {
				if a, err := disk.OS.Access(name); err != nil || a.Perm != mode {
					t.Errorf("%#o: %s has %#o, %v", mode, name, a.Perm, err)
				}
			}
			// What a renewal puts in place of a file that was removed has it, too.
			must(t, os.Remove(alive), os.Remove(leasename.Last(p)))
			must(t, o.a.lease.Renew(t.Context(), clock.Now()))
		}
	}
}

// Without a mode, that of the lease is kept; with one, it is changed.
func TestModeOfLease(t *testing.T) {
	p := leasePath(t)
	must(t, os.Chmod(filepath.Dir(p), 0o777))
	join := func(mode, record, guard fs.FileMode) {
		t.Helper()
		o, err := Join(t.Context(), Config{LeasePath: p, TTL: time.Minute, FileMode: mode})
		must(t, err)
		defer release(o)
		for name, want := range map[string]fs.FileMode{p: record, leasename.Guard(p): guard} {
			if a, err := disk.OS.Access(name); err != nil || a.Perm != want {
				t.Errorf("joined with %#o: %s has %#o, want %#o (%v)", mode, name, a.Perm, want, err)
			}
		}
	}
	join(0, 0o600, 0o600)
	join(0o664, 0o664, 0o660)
	join(0, 0o664, 0o660)
	must(t, os.Remove(p))
	join(0, 0o660, 0o660)
	must(t, os.Remove(leasename.Guard(p)))
	join(0, 0o660, 0o660)
	join(0o600, 0o600, 0o600)
	join(0o644, 0o644, 0o600)
	o := joinFile(t, p)
	ctx, end := context.WithCancel(t.Context())
	end() // it is not waited for
	_, _ = Revoke(ctx, p)
	if rec, err := Inspect(p); err != nil || rec.InstanceID != o.InstanceID() {
		t.Fatal(rec, err)
	}
	if a, err := disk.OS.Access(p); err != nil || a.Perm != 0o644 {
		t.Errorf("revoked: %+v, %v", a, err)
	}
}

// A user who may write to the folder links a file of the owner's, private until now,
// in the place of one that the owner is about to make.
func TestLinkInPlaceOfAliveFile(t *testing.T) {
	for _, mode := range []fs.FileMode{0o644, 0o666} {
		p := leasePath(t)
		must(t, os.Chmod(filepath.Dir(p), 0o777))
		private := filepath.Join(t.TempDir(), "private")
		must(t, os.WriteFile(private, []byte("secret"), 0o600))
		s := &fileStore{process: thisProcess, path: p, mode: mode}
		o := joinFile(t, p, func(c *Config) { c.Store = unwatchedStore{s} })
		must(t, os.Remove(aliveFiles(t, p)[0]), os.Link(private, leasename.Temp(p, o.InstanceID())))
		must(t, o.a.lease.Renew(t.Context(), clock.Now())) // which puts another in place
		if a, err := disk.OS.Access(private); err != nil || a.Perm != 0o600 {
			t.Errorf("%#o: the private file now has %#o, %v", mode, a.Perm, err)
		}
	}
}

// A lease with a mode is made by many at once.
func TestSharedLeaseMadeByMany(t *testing.T) {
	for range 20 {
		p := leasePath(t)
		must(t, os.Chmod(filepath.Dir(p), 0o777))
		s := &fileStore{process: thisProcess, path: p, mode: 0o666}
		owners := make(chan *Owner, 16)
		for range cap(owners) {
			go func() {
				o, err := tryJoin(t, p, func(c *Config) { c.Store = unwatchedStore{s} })
				if err != nil {
					t.Error(err)
				}
				owners <- o
			}()
		}
		owning := 0
		for range cap(owners) {
			if o := <-owners; o != nil && o.IsOwner() {
				owning++
			}
		}
		for _, name := range append(aliveFiles(t, p), p, leasename.Guard(p)) {
			if a, err := disk.OS.Access(name); err != nil || a.Perm != 0o666 || owning != 1 {
				t.Errorf("%d owners; %s has %#o, %v", owning, name, a.Perm, err)
			}
		}
	}
}
