package owner

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/disk"
)

func TestFileModes(t *testing.T) {
	for _, tc := range []struct {
		mode  fs.FileMode
		wrong string
		guard fs.FileMode // only for users who may take part
	}{
		{0o600, "", 0o600},
		{0o640, "", 0o600},
		{0o644, "", 0o600},
		{0o604, "", 0o600},
		{0o660, "", 0o660},
		{0o664, "", 0o660},
		{0o666, "", 0o666},
		{0o606, "", 0o606},
		{0o444, "no user may write", 0},
		{0o400, "no user may write", 0},
		{0o200, "own user", 0},
		{0o060, "own user", 0},
		{0o440 | 0o020, "own user", 0},
		{0o620, "without that to read", 0},
		{0o602, "without that to read", 0},
		{0o642, "without that to read", 0},
		{0o700, "execute", 0},
		{0o755, "execute", 0},
		{0o4600, "not permissions", 0},
		{fs.ModeSetuid | 0o600, "not permissions", 0},
		{fs.ModeSticky | 0o666, "not permissions", 0},
		{fs.ModeDir | 0o600, "not permissions", 0},
	} {
		_, err := Join(context.Background(), Config{LeasePath: t.TempDir() + "/missing/x", TTL: time.Second, FileMode: tc.mode})
		switch {
		case tc.wrong == "" && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("%#o: %v", uint32(tc.mode), err)
		case tc.wrong != "" && (!errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), tc.wrong)):
			t.Errorf("%#o: %v, want %q", uint32(tc.mode), err, tc.wrong)
		}
		if got := participants(tc.mode); tc.wrong == "" && got != tc.guard {
			t.Errorf("%#o: the guard has %#o, want %#o", tc.mode, got, tc.guard)
		}
	}
	if _, err := Join(context.Background(), Config{Store: newFakeStore(), TTL: time.Second, FileMode: 0o640}); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("a mode for a store that has no files: %v", err)
	}
}

func TestFolderContradictsMode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere an access list can give what a folder's mode does not say")
	}
	for _, tc := range []struct {
		mode, folder fs.FileMode
		wrong        string
	}{
		{0o600, 0o700, ""},
		{0o600, 0o777 | fs.ModeSticky, ""},
		{0o644, 0o755, ""},
		{0o644, 0o711, ""},
		{0o644, 0o750, ""}, // "others" of the file can be in the folder's group
		{0o644, 0o777 | fs.ModeSticky, ""},
		{0o644, 0o700, "lets none of them in"},
		{0o640, 0o766, "lets none of them in"},
		{0o660, 0o770, ""},
		{0o666, 0o777, ""},
		{0o660, 0o755, "lets none of them write"},
		{0o660, 0o760, "lets none of them write"},
		{0o660, 0o777 | fs.ModeSticky, "sticky bit"},
	} {
		err := checkFolder(tc.mode, "/x", disk.Access{Perm: tc.folder})
		if (err == nil) != (tc.wrong == "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
			t.Errorf("%#o in %v: %v, want %q", tc.mode, tc.folder, err, tc.wrong)
		}
	}
}

func TestShareOut(t *testing.T) {
	const none, root, alice, bob, team = -1, 0, 1, 2, 3
	access := func(perm fs.FileMode, uid, gid int) disk.Access { return disk.Access{Perm: perm, UID: uid, GID: gid} }
	for _, tc := range []struct {
		name         string
		mode         fs.FileMode
		user         int
		guard        disk.Access
		folder       disk.Access
		guards, want disk.Access
	}{
		{"alone", 0o600, alice, access(0o600, alice, alice), access(0o700, alice, team), disk.Plain, disk.Plain},
		{"for readers", 0o644, alice, access(0o600, alice, alice), access(0o755, alice, team), disk.Plain, access(0o644, none, team)},
		{"for a group", 0o660, bob, access(0o660, alice, team), access(0o770, alice, team), access(0o660, none, team), access(0o660, none, team)},
		{"root in a user's lease", 0o600, root, access(0o600, alice, alice), access(0o777, root, root), access(0o600, alice, alice), access(0o600, alice, alice)},
		{"root first in a user's folder", 0o600, root, access(0o600, root, root), access(0o700, alice, team), access(0o600, alice, team), access(0o600, alice, team)},
		{"root's own", 0o600, root, access(0o600, root, root), access(0o755, root, root), disk.Plain, disk.Plain},
		{"root in a group's", 0o660, root, access(0o660, alice, alice), access(0o770, root, team), access(0o660, alice, team), access(0o660, alice, team)},
	} {
		if got := shareOut(tc.mode, tc.user, tc.guard, tc.folder); got.guard != tc.guards || got.files != tc.want {
			t.Errorf("%s: %+v, want %+v and %+v", tc.name, got, tc.guards, tc.want)
		}
	}
}

// A host whose user may not open the guard, with another clock than the owner's.
type readersMachine struct{ thisHost }

func (readersMachine) Clock() string { return "another" }

func (m readersMachine) Lock(path string, flag int) (disk.Lock, error) {
	if strings.HasSuffix(path, ".lock") {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return m.thisHost.Lock(path, flag)
}

// What the guard is wanted for besides acquiring (to keep what was seen of an owner with
// another clock) keeps no reader from following.
func TestReaderWithAnotherClockFollows(t *testing.T) {
	p := leasePath(t)
	s := &fileStore{process: &process{host: readersMachine{thisHost{disk.OS}}}, path: p}
	reader := func(c *Config) { c.Store = unwatchedStore{s} }
	if _, err := tryJoin(t, p, reader); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "at most follow") {
		t.Errorf("a free lease: %v", err)
	}
	o := joinFile(t, p)
	if f := joinFile(t, p, reader); f.IsOwner() || f.InstanceID() != o.InstanceID() {
		t.Errorf("follows %s, want %s", f.InstanceID(), o.InstanceID())
	}
	must(t, o.Release())
	if _, err := tryJoin(t, p, reader); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a lease that was released: %v", err)
	}
}
