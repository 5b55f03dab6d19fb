package owner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// liveness is what an alive file shows about its instance.
type liveness int

const (
	unknown liveness = iota // the file cannot be opened: only expiry decides
	noFile                  // no file: released, or removed by a cleaner
	live                    // its process exists, stopped or not
	dead
)

// maybe reports whether the instance is not known to have ended.
func (l liveness) maybe() bool { return l != dead && l != noFile }

// alive tries the lock that an instance holds for its whole life, and that the kernel
// frees when its process ends. The lock is tried shared: two processes that try it at the
// same time must not take each other for the owner.
//
// number is the file's, 0 where it is not known: a file that was put in its place has
// another, and proves nothing.
func (s *fileStore) alive(id string, number uint64) liveness {
	return s.aliveAt(leasename.Alive(s.path, id), number)
}

func (s *fileStore) aliveAt(path string, number uint64) liveness {
	l, err := s.RLock(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return noFile
	case err != nil:
		return unknown
	case l == nil:
		return live
	}
	defer l.Unlock()
	// An owner that has put another file in its place unlocks this one.
	if same, err := l.At(path); err != nil || !same {
		return unknown
	}
	if number != 0 && l.Number() != number {
		return unknown
	}
	return dead
}

// lockAlive makes and locks an instance's own alive file. It stays open for writing:
// on Linux, its close then gives the others a hint that its owner has ended (internal/hint).
func (p *process) lockAlive(path string) (disk.Lock, error) {
	// A process that searches the folder finds the name, and holds the lock for a moment
	// while it tries it.
	for try := range 100 {
		l, err := p.Lock(path, os.O_RDWR|os.O_CREATE)
		if l != nil {
			p.markAlive(path, l)
		}
		if l != nil || err != nil {
			return l, err
		}
		_ = p.Sleep(context.Background(), time.Duration(try)*10*time.Microsecond)
	}
	return nil, fmt.Errorf("%s: another process holds the lock of a file that was made just now", path)
}

// markLast gives the alive file of an instance its second name. Where the file system has
// no links, the first name has to do: no reason to fail.
func (s *fileStore) markLast(id string) error {
	if err := s.Link(leasename.Alive(s.path, id), leasename.Last(s.path)); errors.Is(err, fs.ErrExist) {
		if err := s.checkLast(); err != nil {
			return err
		}
		_ = s.Remove(leasename.Last(s.path)) // of the one before
		_ = s.Link(leasename.Alive(s.path, id), leasename.Last(s.path))
	}
	return nil
}

// instances returns the ids of the instances that have files beside the record, among the
// first most files of the folder; a negative most means all files.
func (s *fileStore) instances(most int) ([]string, error) {
	names, err := s.Names(filepath.Dir(s.path), most)
	if err != nil {
		return nil, err
	}
	var ids []string
	prefix := filepath.Base(s.path) + "."
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		id, _, _ := strings.Cut(rest, ".")
		if leasename.IsInstanceID(id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
