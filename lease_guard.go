package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ownerlease/owner/internal/disk"
	"github.com/ownerlease/owner/internal/leasename"
)

// A guard excludes all others that want to acquire the lease. Its file is never
// removed: a process that held a removed one would exclude none.
type guard struct {
	store *fileStore
	lock  disk.Lock
}

func (g *guard) path() string { return leasename.Guard(g.store.path) }

// lockGuard locks the guard, which id makes if there is none. It returns nil if
// another process has it.
func (s *fileStore) lockGuard(id string) (*guard, error) {
	g := &guard{store: s}
	for range 10 {
		err := g.try(id)
		if errors.Is(err, errGuardGone) {
			continue
		}
		if g.lock == nil || err != nil {
			return nil, err
		}
		same, err := g.inPlace()
		if err == nil && same {
			if err = g.excludes(); err == nil {
				return g, nil
			}
			// The second handle may have been of another guard.
			if same, serr := g.inPlace(); serr == nil && !same {
				err = nil
			}
		}
		g.unlock()
		if err != nil {
			return nil, err
		}
		// Removed or exchanged between opening and locking: the next process locks
		// another file.
	}
	return nil, fmt.Errorf("%s keeps being replaced", g.path())
}

// try opens and locks the file. It is opened to be written, not to be made: in a
// folder with the sticky bit, Linux refuses O_CREAT for a file of another user even
// to root.
func (g *guard) try(id string) (err error) {
	g.lock, err = g.store.Lock(g.path(), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		if err := g.store.makeGuard(id); err != nil {
			return err
		}
		if g.lock, err = g.store.Lock(g.path(), os.O_RDWR); errors.Is(err, fs.ErrNotExist) {
			return errGuardGone
		}
	}
	return err
}

// makeGuard makes the guard with its mark in one step, a link: a process that is
// killed half way must not leave a file that the next one takes for another program's.
// Nothing is made where the acquisition would be refused anyway.
func (s *fileStore) makeGuard(id string) error {
	if err := s.checkLast(); err != nil {
		return err
	}
	// Not a name that counts as an instance's: without an alive file, the instance would
	// be taken for dead, and its alive file removed as soon as it exists.
	temp := leasename.Temp(leasename.Guard(s.path), id)
	f, err := s.Open(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		// From the try before: on Windows it keeps its name while another process has it
		// open.
		_ = s.Remove(temp)
		return nil
	}
	if err != nil {
		return err
	}
	if err = s.shareGuard(temp, f); err == nil {
		_, err = f.WriteAt(encodeGuard(lastAcquirer{}), 0)
	}
	_ = f.Close()
	if err != nil {
		_ = s.Remove(temp)
		return err
	}
	switch err := s.Link(temp, leasename.Guard(s.path)); {
	case err == nil, errors.Is(err, fs.ErrExist): // another was quicker
		_ = s.Remove(temp)
	case errors.Is(err, fs.ErrNotExist): // a cleaner has removed it: try again
	default: // a file system without links
		return s.Replace(temp, leasename.Guard(s.path))
	}
	return nil
}

// inPlace reports whether the path still leads to the locked file.
func (g *guard) inPlace() (bool, error) { return g.lock.At(g.path()) }

// excludes tests that a second handle is kept out: there are file systems on which a lock
// succeeds and means nothing.
func (g *guard) excludes() error {
	second, err := g.store.Lock(g.path(), os.O_RDWR)
	if second != nil {
		_ = second.Unlock()
		return &disk.UntrustedError{Dir: filepath.Dir(g.path()), FS: "a file system whose locks let two holders in"}
	}
	return err
}

func (g *guard) unlock() { _ = g.lock.Unlock() }

// lastAcquirer is what the guard's file stores, after the mark, about the instance that
// acquired last.
type lastAcquirer struct {
	InstanceID string `json:"instance_id"`
	PID        int    `json:"pid"`
	Epoch      uint64 `json:"epoch"`
	// Left are the instances before it whose files may still be there.
	Left []string `json:"left,omitempty"`
	// FirstSeen is the heartbeat of another clock that was seen last.
	FirstSeen *firstSeen `json:"sight,omitempty"`
}

const (
	guardSize = 1024
	// maxLeft bounds the list, so that a lastAcquirer fits.
	maxLeft = 8
)

// encodeGuard returns the guard's content. Its size is constant, so that writing it again
// allocates no block.
func encodeGuard(m lastAcquirer) []byte {
	m.Left = m.Left[max(0, len(m.Left)-maxLeft):]
	b, err := json.Marshal(m)
	if err != nil || len(guardMark)+len(b) >= guardSize { // neither can be
		b = nil
	}
	return fmt.Appendf(nil, "%s%-*s\n", guardMark, guardSize-len(guardMark)-1, b)
}

// readGuard returns the zero lastAcquirer where there is none that can be read.
func readGuard(f disk.File) (m lastAcquirer, k kind) {
	k, b, err := guardFile.read(f)
	if err != nil {
		return lastAcquirer{}, blank // a fault of the disk is no reason to refuse it
	}
	if k != marked {
		return lastAcquirer{}, k
	}
	b = b[:min(len(b), guardSize-1)]
	if json.Unmarshal(b[len(guardMark)-1:], &m) != nil || m.validate() != nil {
		return lastAcquirer{}, k
	}
	return m, k
}

var errBadLastAcquirer = errors.New("invalid data about the last acquirer")

// validate refuses ids that are not safe as a part of a file's name, and numbers whose
// sums could overflow.
func (m *lastAcquirer) validate() error {
	for _, id := range m.Left {
		if !leasename.IsInstanceID(id) {
			return errBadLastAcquirer
		}
	}
	if m.InstanceID != "" && !leasename.IsInstanceID(m.InstanceID) || m.Epoch > maxNumber {
		return errBadLastAcquirer
	}
	if s := m.FirstSeen; s != nil && (s.At < -maxNumber || s.At > maxNumber) {
		return errBadLastAcquirer
	}
	return nil
}

// open opens the locked file a second time, to read and write: flock keeps its own handle
// to itself. The path may lead to another guard by now, whose content belongs to the
// process that holds that one.
func (g *guard) open() (disk.File, error) {
	f, err := g.store.Open(g.path(), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGuardGone
	}
	if err != nil {
		return nil, err
	}
	if !g.lock.Is(f) {
		_ = f.Close()
		return nil, errGuardGone
	}
	return f, nil
}

// loadLast reads who acquired last. An error that matches ErrInvalidConfig says that the
// file is not a guard.
func (g *guard) loadLast() (lastAcquirer, error) {
	f, err := g.open()
	if err != nil {
		return lastAcquirer{}, err
	}
	defer f.Close()
	m, k := readGuard(f)
	return m, g.store.accept(g.path(), k)
}

// loadLast is for processes that do not hold the guard: the answer may be about to change.
func (s *fileStore) loadLast() lastAcquirer {
	f, err := s.Open(leasename.Guard(s.path), os.O_RDONLY)
	if err != nil {
		return lastAcquirer{}
	}
	defer f.Close()
	m, _ := readGuard(f)
	return m
}

func (g *guard) saveLast(m lastAcquirer) error {
	f, err := g.open()
	if err != nil {
		return err
	}
	// From the second byte on: Windows keeps the first one from other handles.
	_, err = f.WriteAt(encodeGuard(m)[1:], 1)
	return errors.Join(err, f.Close())
}

// whoGuards names the last acquirer, for the error of a process that waits for the guard.
func (s *fileStore) whoGuards() string {
	if m := s.loadLast(); m.PID != 0 {
		return fmt.Sprintf(" (last taken by pid %d)", m.PID)
	}
	return ""
}
