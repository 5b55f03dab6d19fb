package owner

import (
	"fmt"
	"io/fs"
	"path/filepath"
)

// fileStore keeps a lease in files: the record at path, the guard beside it, and
// an alive file for each instance. docs/design.md has the protocol, and why there are
// never two owners.
type fileStore struct {
	*process
	path string
	mode fs.FileMode // of the files that it makes; 0 keeps that of the lease
}

// newFileStore resolves a relative path now: the process may change its folder
// later. Links in the folder's path are not resolved, so that an owner notices when a
// link is changed to lead to another folder.
func newFileStore(path string) (*fileStore, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return &fileStore{process: thisProcess, path: abs}, nil
}

// FileStore keeps the lease in the file at path, as [Config.LeasePath] says: it is
// the store that Join uses for it. A relative path is resolved now; nothing is read
// or written before the first call. Its files keep the mode that the lease has: to set
// another, use [Config.LeasePath] and [Config.FileMode].
//
// An error matches [ErrInvalidConfig], for an empty path, or is the operating system's.
func FileStore(path string) (Store, error) {
	s, err := openLease(path)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openLease(path string) (*fileStore, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: the path of the lease is empty", ErrInvalidConfig)
	}
	return newFileStore(path)
}

// String returns the lease's path.
func (s *fileStore) String() string { return s.path }

// LeasePath is for the package start, which puts its lock beside the lease.
func (s *fileStore) LeasePath() string { return s.path }
