package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// Who may use a lease's files. The read bits of its mode say who may follow it, the
// write bits who may take part in it. docs/users.md has what each can do.
//
// A lock needs no more than a file that can be opened to be read. So a file on whose
// lock the lease depends must not be readable by users who may only follow: not the
// guard, and not the alive file of an instance that has not published its record,
// which would keep the lease for as long as it is locked. Once there is a record, its
// TTL bounds what the lock of the alive file can do, and followers may try it.

// defaultMode is the mode of a file as it is made: for its user only.
const defaultMode fs.FileMode = 0o600

// checkMode returns an error for a mode that a lease cannot have.
func checkMode(mode fs.FileMode) error {
	switch {
	case mode == 0: // not set
		return nil
	case mode&^0o777 != 0:
		return fmt.Errorf("FileMode is %#o, with bits that are not permissions", uint32(mode))
	case mode&0o111 != 0:
		return fmt.Errorf("FileMode is %#o, with permissions to execute: a lease needs those to read and to write only", mode)
	case mode&0o222 == 0:
		return fmt.Errorf("FileMode is %#o, with which no user may write: the lease could not be acquired", mode)
	case mode&0o600 != 0o600:
		return fmt.Errorf("FileMode is %#o; the files' own user must be able to read and to write: %#o", mode, mode|0o600)
	case mode>>1&^(mode>>2)&0o011 != 0:
		return fmt.Errorf("FileMode is %#o, with a permission to write without that to read: taking part in a lease needs both", mode)
	}
	return nil
}

// checkFolder returns an error for a folder in which the mode cannot mean what it says.
// It refuses only what is certain: on Linux, the bits for the group bound what an access
// control list gives.
func checkFolder(mode fs.FileMode, dir string, folder disk.Access) error {
	group, others := folder.Perm>>3&7, folder.Perm&7
	lack := func(need fs.FileMode) bool {
		return runtime.GOOS == "linux" && group&need != need && others&need != need
	}
	switch {
	case mode&0o022 != 0 && folder.Perm&fs.ModeSticky != 0:
		return fmt.Errorf("FileMode %#o lets other users take part, but the folder %s has the sticky bit, with which only a file's own user can replace it: choose another folder", mode, dir)
	case mode&0o022 != 0 && lack(3):
		return fmt.Errorf("FileMode %#o lets other users take part, but the folder %s (mode %#o) lets none of them write: taking part needs that, too", mode, dir, folder.Perm.Perm())
	case mode&0o044 != 0 && lack(1):
		return fmt.Errorf("FileMode %#o lets other users follow, but the folder %s (mode %#o) lets none of them in", mode, dir, folder.Perm.Perm())
	}
	return nil
}

// checkSharing refuses a folder that contradicts the mode, before anything is made.
func (s *fileStore) checkSharing() error {
	if s.mode&0o066 == 0 {
		return nil
	}
	dir := filepath.Dir(s.path)
	folder, err := s.Access(dir)
	if err != nil || folder.UID < 0 {
		return err
	}
	if err := checkFolder(s.mode, dir, folder); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	return nil
}

// participants returns the bits of a mode for the users who may write.
func participants(mode fs.FileMode) fs.FileMode {
	may := mode & 0o222
	return may | may<<1
}

// A sharing is the access that the files of an ownership get.
type sharing struct {
	guard disk.Access // also of an alive file whose record is not published
	files disk.Access // the record, and its alive file
}

// unshared is for a system without users, and for a lease that is not shared.
var unshared = sharing{disk.Plain, disk.Plain}

// share returns the access that files get from now on, and gives the guard its own, if
// that is this process's to do. The guard is held.
func (s *fileStore) share(g *guard) (sharing, error) {
	guard, err := s.Access(g.path())
	if err != nil || guard.UID < 0 {
		return unshared, nil // if it has gone, acquireGuarded finds that in the end
	}
	sh, err := s.sharing(guard)
	if err != nil || guard.Perm == sh.guard.Perm && is(guard.UID, sh.guard.UID) && is(guard.GID, sh.guard.GID) {
		return sh, err
	}
	if user := os.Geteuid(); user != 0 && user != guard.UID {
		return sh, nil
	}
	f, err := g.open()
	if err != nil {
		return unshared, err
	}
	defer f.Close()
	// Its mark shows that it is a guard; it can still have its temporary name as well.
	return sh, s.allow(f, sh.guard, 2)
}

// shareGuard gives a guard that is being made its access before it gets its name.
func (s *fileStore) shareGuard(temp string, f disk.File) error {
	guard, err := s.Access(temp)
	if err != nil || guard.UID < 0 {
		return nil // if it has gone, giving it its name fails
	}
	sh, err := s.sharing(guard)
	if err != nil {
		return err
	}
	return s.allow(f, sh.guard, 1)
}

func is(id, wanted int) bool { return wanted < 0 || wanted == id }

// sharing is the access of files beside a guard.
func (s *fileStore) sharing(guard disk.Access) (sharing, error) {
	folder, err := s.Access(filepath.Dir(s.path))
	if err != nil {
		return unshared, err
	}
	mode := s.mode
	if mode == 0 {
		mode = s.keptMode(guard)
	}
	return shareOut(mode, os.Geteuid(), guard, folder), nil
}

// shareOut decides about the access of new files. They belong to the lease's user, who
// owns the guard: once root has taken a lease over, root's files must not lock its user
// out. (A guard of root's in a user's folder is the user's, too.) Where the mode gives a
// group anything, it is the folder's group.
func shareOut(mode fs.FileMode, user int, guard, folder disk.Access) sharing {
	sh := unshared
	if user == 0 {
		whose := guard
		if guard.UID == 0 {
			whose = folder
		}
		if whose.UID != 0 {
			sh.guard.UID, sh.guard.GID = whose.UID, whose.GID
			sh.files = sh.guard
		}
	}
	give := func(to *disk.Access, mode fs.FileMode) {
		to.Perm = mode
		if mode&0o070 != 0 {
			to.GID = folder.GID
		}
	}
	give(&sh.guard, participants(mode))
	give(&sh.files, mode)
	return sh
}

// keptMode is the mode of a lease to which this process gives none: that which its
// record has, or its guard where there is no record.
func (s *fileStore) keptMode(guard disk.Access) fs.FileMode {
	if rec, err := s.Access(s.path); err == nil && rec.Perm != 0 && checkMode(rec.Perm) == nil {
		return rec.Perm
	}
	if guard.Perm != 0 && checkMode(guard.Perm) == nil {
		return guard.Perm
	}
	return defaultMode
}

// allow gives a file its access, unless it has more names than this. A mode that was
// not asked for may fail: there are file systems without permissions.
func (s *fileStore) allow(f disk.File, a disk.Access, names int) error {
	if err := f.Allow(a, names); err != nil && s.mode != 0 {
		return fmt.Errorf("giving the lease's files the mode %#o: %w", s.mode, err)
	}
	return nil
}

// allowLocked gives a file its access that is locked, and that path leads to.
func (s *fileStore) allowLocked(path string, l disk.Lock, a disk.Access, names int) error {
	if a == disk.Plain {
		return nil
	}
	f, err := s.Open(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if !l.Is(f) {
		return fmt.Errorf("%s was replaced just now", path)
	}
	return s.allow(f, a, names)
}

// makeAlive makes and locks the alive file of an instance that has no record yet. Where
// its access is not that of any new file, it gets its name last: were this process killed
// in between, its successors could not open the file, and would take it for live for
// ever.
func (s *fileStore) makeAlive(id string, a disk.Access) (disk.Lock, error) {
	path := leasename.Alive(s.path, id)
	if a == disk.Plain {
		return s.lockAlive(path)
	}
	temp := leasename.Temp(s.path, id)
	alive, err := s.lockAlive(temp)
	if err != nil {
		return nil, err
	}
	if err = s.allowLocked(temp, alive, a, 1); err == nil {
		err = s.Replace(temp, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// An acquirer with another guard has taken it for a leftover.
		err = errGuardGone
	}
	if err != nil {
		_ = s.Remove(temp)
		return nil, errors.Join(err, alive.Unlock())
	}
	return alive, nil
}

// letFollow opens the alive file to users who may only follow: the record is in place.
// If that fails, they cannot detect its owner's death, and wait until the lease has
// expired.
func (l *fileLease) letFollow() {
	if l.shared.files == l.shared.guard {
		return
	}
	names := 1
	if same, err := l.alive.At(leasename.Last(l.store.path)); err == nil && same {
		names++
	}
	_ = l.store.allowLocked(leasename.Alive(l.store.path, l.instance), l.alive, l.shared.files, names)
}

// follow makes a user who may not take part a follower where the lease is owned: the
// guard was needed only to acquire.
func (s *fileStore) follow(denied error) (Acquisition, error) {
	if errors.Is(denied, fs.ErrPermission) {
		if view, err := s.readView(); err == nil && !view.Free() {
			return Acquisition{Holder: view.Holder}, nil
		}
	}
	return Acquisition{}, s.denied(denied)
}

// denied adds which permission this user lacks.
func (s *fileStore) denied(err error) error {
	var path *fs.PathError
	switch {
	case !errors.Is(err, fs.ErrPermission):
		return err
	case errors.As(err, &path) && path.Path == s.path && path.Op == "open":
		return fmt.Errorf("%w (the lease's record belongs to another user: its mode says who else may follow)", err)
	case errors.As(err, &path) && path.Path == leasename.Guard(s.path) && path.Op == "open":
		return fmt.Errorf("%w (this user may at most follow the lease: to take part needs permission to write this file and its folder)", err)
	}
	return fmt.Errorf("%w (to take part in the lease needs permission to read and write its folder and, where that has the sticky bit, to be the user of its files)", err)
}
