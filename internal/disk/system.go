package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// A System is a machine's files and their locks, as far as the lease file needs
// them. OS is the real one. Files are opened without following links or waiting,
// and made with permissions for their user only: Allow gives them to others.
type System interface {
	// Open opens a regular file: a *NotRegularError names anything else.
	Open(path string, flag int) (File, error)
	// Lock opens a file and tries to lock it, RLock so that others can do the same.
	// They return nil if another holds the lock, and do not wait.
	Lock(path string, flag int) (Lock, error)
	RLock(path string) (Lock, error)
	// Replace renames a file over another, which others may hold open.
	Replace(from, to string) error
	Remove(path string) error
	// Link gives a file a second name; fs.ErrExist if there is a file of that name.
	Link(path, second string) error
	// Touch sets a file's times, which gives a hint to those that watch its folder.
	Touch(path string, at time.Time) error
	// Access returns the owner and permissions of the file or folder at path.
	Access(path string) (Access, error)
	// Names returns the names of the files in a folder, no more than most: of all if
	// that is negative.
	Names(dir string, most int) ([]string, error)
	// CheckTrusted returns an *UntrustedError for a folder whose locks may not exclude
	// all others.
	CheckTrusted(dir string) error
}

// A File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Allow gives the file another access, unless it has more names than this.
	Allow(a Access, names int) error
	// At reports whether the path leads to this file, and the size of the file at the path.
	At(path string) (same bool, size int64, err error)
	// Number identifies a file on its file system, for use in a record: a copy has
	// another. 0 means unknown.
	Number() uint64
}

// A Lock is held on a file until Unlock, or until the process ends.
type Lock interface {
	// At reports whether the path leads to the locked file.
	At(path string) (bool, error)
	// Is reports whether the locked file is this one.
	Is(File) bool
	// Number is that of the locked file.
	Number() uint64
	Unlock() error
}

// OS is the operating system.
var OS System = osSystem{}

type osSystem struct{}

const perm = 0o600

func (osSystem) Open(path string, flag int) (File, error) {
	f, err := open(path, flag, perm)
	if err != nil {
		return nil, explain(path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &NotRegularError{Path: path, Mode: info.Mode()}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if flag&os.O_EXCL != 0 {
		keepInPlace(f)
	}
	return &osFile{f, unlessKnown(info), identify(f, info)}, nil
}

func (osSystem) Lock(path string, flag int) (Lock, error) {
	return lock(path, flag, (*flock.Flock).TryLock)
}

func (osSystem) RLock(path string) (Lock, error) {
	return lock(path, os.O_RDONLY, (*flock.Flock).TryRLock)
}

func lock(path string, flag int, try func(*flock.Flock) (bool, error)) (Lock, error) {
	l := flock.New(path, flock.SetFlag(flag|openFlags), flock.SetPermissions(perm))
	locked, err := try(l)
	if err != nil {
		return nil, explain(path, err)
	}
	if !locked {
		return nil, nil
	}
	info, err := l.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &NotRegularError{Path: path, Mode: info.Mode()}
	}
	if err != nil {
		_ = l.Unlock()
		return nil, err
	}
	return &osLock{l, unlessKnown(info), identify(nil, info)}, nil
}

func (osSystem) Replace(from, to string) error         { return replace(from, to) }
func (osSystem) Remove(path string) error              { return os.Remove(path) }
func (osSystem) Link(path, second string) error        { return os.Link(path, second) }
func (osSystem) Touch(path string, at time.Time) error { return os.Chtimes(path, at, at) }

func (osSystem) Names(dir string, most int) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(most)
	if err == io.EOF { // an empty folder
		err = nil
	}
	return names, err
}

func (osSystem) CheckTrusted(dir string) error {
	name, err := untrusted(dir)
	if err != nil {
		return err
	}
	if name != "" {
		return &UntrustedError{Dir: dir, FS: name}
	}
	return nil
}

// unlessKnown returns the info where it takes more than an id to tell what the file is,
// as on Windows: an owner keeps it for its whole life, and it is large.
func unlessKnown(info fs.FileInfo) fs.FileInfo {
	if identify(nil, info) != (fileID{}) {
		return nil
	}
	return info
}

type osFile struct {
	*os.File
	info fs.FileInfo // see unlessKnown
	id   fileID
}

func (f *osFile) Number() uint64 { return f.id.number() }

func (f *osFile) At(path string) (same bool, size int64, err error) { return leadsTo(path, f.id) }

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

type osLock struct {
	flock *flock.Flock
	info  fs.FileInfo // see unlessKnown
	id    fileID
}

func (l *osLock) At(path string) (same bool, err error) {
	if l.id == (fileID{}) {
		var there fs.FileInfo
		if there, err = os.Lstat(path); err == nil {
			same = os.SameFile(l.info, there)
		}
	} else {
		same, _, err = leadsTo(path, l.id)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return same, err
}

func (l *osLock) Is(f File) bool {
	g, ok := f.(*osFile)
	if ok && l.id != (fileID{}) {
		return l.id == g.id
	}
	return ok && os.SameFile(l.info, g.info)
}

func (l *osLock) Number() uint64 { return l.id.number() }

// Unlock unlocks, and not only closes: a descriptor that is being copied by a fork
// at this moment would hold the lock for longer.
func (l *osLock) Unlock() error { return l.flock.Unlock() }
