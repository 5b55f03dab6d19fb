package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
)

// The files of a lease, beside its record.
func guardPath(path string) string     { return path + ".lock" }
func alivePath(path, id string) string { return path + "." + id + aliveSuffix }
func tempPath(path, id string) string  { return path + "." + id + ".tmp" }

const aliveSuffix = ".alive"

// A sighting is what one reading of the record has shown: a record, or none
// (rec is nil), or a damaged one of ours.
type sighting struct {
	// now is the clock's reading from before the record was read. A renewal that
	// counts was finished before its old deadline; if that has passed at now, then
	// the renewal was finished before now, and the reading has seen it.
	now    time.Duration
	rec    *diskRecord
	damage error
}

// read reads the record. What is there but is not ours is an error: it must not
// be overwritten.
func (s *fileStore) read() (sighting, error) {
	var now time.Duration
	rec, err := untilWhole(func() (*diskRecord, error) {
		now = s.Now()
		return readFile(s.path)
	})
	var corrupt *corruptError
	switch {
	case err == nil:
		return sighting{now: now, rec: rec}, nil
	case errors.Is(err, fs.ErrNotExist):
		return sighting{now: now}, nil
	case errors.As(err, &corrupt) && corrupt.ours:
		return sighting{damage: s.corrupt(err)}, nil
	}
	return sighting{}, s.corrupt(err)
}

// untilWhole reads again where the record is damaged: a reading can meet a renewal
// half way, and the next one then sees it whole.
func untilWhole(read func() (*diskRecord, error)) (rec *diskRecord, err error) {
	var corrupt *corruptError
	for try := range 4 {
		time.Sleep(time.Duration(try*try) * 50 * time.Microsecond)
		if rec, err = read(); !errors.As(err, &corrupt) || !corrupt.ours {
			break
		}
	}
	return rec, err
}

// corrupt says which record it is that cannot be read, if that is the trouble.
func (s *fileStore) corrupt(err error) error {
	var corrupt *corruptError
	if !errors.As(err, &corrupt) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrCorruptRecord, s.path, err)
}

// buffers spare each reading a page.
var buffers = sync.Pool{New: func() any { return new([maxRecord + 1]byte) }}

func readFile(path string) (*diskRecord, error) {
	f, info, err := disk.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rec, err := readOpen(f)
	if err != nil {
		return nil, err
	}
	if number := disk.Number(f, info); rec.File != number {
		// A copy, say from a backup: its heartbeat is not the owner's.
		return nil, &corruptError{why: "not the file that its owner wrote, but a copy", ours: true}
	}
	return rec, nil
}

// readOpen reads the record in a file, whatever its path leads to by now.
func readOpen(f *os.File) (*diskRecord, error) {
	buf := buffers.Get().(*[maxRecord + 1]byte)
	defer buffers.Put(buf)
	n, err := f.ReadAt(buf[:], 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return decodeRecord(buf[:n])
}

// remaining returns how long the lease of a record still lasts.
func (s *fileStore) remaining(seen sighting) time.Duration {
	rec, now := seen.rec, seen.now
	ttl := rec.public().TTL
	if rec.Clock != "" && rec.Clock == clock.Domain() && rec.Heartbeat <= now {
		return rec.Heartbeat + ttl - now
	}
	return s.watched(heartbeat{rec.InstanceID, rec.Heartbeat}, now) + ttl - now
}

// A heartbeat of another clock.
type heartbeat struct {
	instance string
	at       time.Duration
}

// sightings remembers which heartbeat this process has seen last at a path, and
// when first. It belongs to the process and not to a store, as Join may be called
// again and again.
var sightings sync.Map // of path to firstSight

type firstSight struct {
	heartbeat
	at time.Duration // by our clock, after the reading that showed it
}

// watched returns since when, by our clock, the heartbeat has been the last. The
// owner wrote it before we first saw it: a full TTL later it has expired.
func (s *fileStore) watched(h heartbeat, now time.Duration) time.Duration {
	if v, ok := sightings.Load(s.path); ok && v.(firstSight).heartbeat == h {
		return v.(firstSight).at
	}
	first := firstSight{h, max(s.Now(), now)}
	sightings.Store(s.path, first)
	return first.at
}

// liveness is what an alive file tells of its instance.
type liveness int

const (
	unknown liveness = iota // the file cannot be opened: only time can tell
	gone                    // there is no file: released, or cleaned away
	lives                   // its process exists, stopped or not
	dead
)

// alive tries the lock that an instance holds for its whole life, and that the
// kernel frees when its process ends. The lock is tried shared: two who look at
// the same time must not take each other for the owner.
//
// number is that of the file, as far as it is known: a file that was put in its
// place has another, and says nothing.
func (s *fileStore) alive(id string, number uint64) liveness {
	l := flock.New(alivePath(s.path, id), flock.SetFlag(os.O_RDONLY|disk.OpenFlags))
	free, err := l.TryRLock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gone
	case err != nil:
		return unknown
	case !free:
		return lives
	}
	defer l.Unlock()
	// An owner that has put another file in its place lets go of this one.
	if same, err := leadsTo(l); err != nil || !same {
		return unknown
	}
	if info, err := l.Stat(); number != 0 && (err != nil || disk.Number(nil, info) != number) {
		return unknown
	}
	return dead
}

// lockAlive makes and locks an instance's own alive file.
func lockAlive(path string) (*flock.Flock, error) {
	l := flock.New(path, flock.SetFlag(os.O_RDWR|os.O_CREATE|disk.OpenFlags), flock.SetPermissions(0o600))
	// Whoever tries the lock holds it for a moment: the name is found by those who
	// search the folder.
	for try := range 100 {
		locked, err := l.TryLock()
		if locked {
			return l, nil
		}
		if err != nil {
			return nil, err
		}
		time.Sleep(time.Duration(try) * 10 * time.Microsecond)
	}
	return nil, fmt.Errorf("%s: somebody else holds the lock of a file that was made just now", path)
}

// instances returns the ids of all instances that have files beside the record.
func (s *fileStore) instances() ([]string, error) {
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
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
		if isInstanceID(id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// remove removes what dead instances have left. Under the guard only.
func (s *fileStore) remove(ids []string) {
	for _, id := range ids {
		// Without an error to report: what stays harms nobody.
		_ = os.Remove(tempPath(s.path, id))
		_ = os.Remove(alivePath(s.path, id))
	}
}

// A guard excludes all others who want to acquire the lease. Its file is never
// removed: whoever holds a removed one would exclude nobody.
type guard struct {
	lock *flock.Flock
}

// lockGuard locks the guard. It returns nil if somebody else has it.
func lockGuard(path string) (*guard, error) {
	for range 10 {
		l, err := tryGuard(guardPath(path))
		if l == nil || err != nil {
			return nil, err
		}
		same, err := leadsTo(l)
		if err == nil && same {
			if err = excludes(l); err == nil {
				return &guard{lock: l}, nil
			}
			// The second handle may have been of another guard.
			if same, lerr := leadsTo(l); lerr == nil && !same {
				err = nil
			}
		}
		_ = l.Unlock()
		if err != nil {
			return nil, err
		}
		// Removed or exchanged between opening and locking: the next one locks
		// another file.
	}
	return nil, fmt.Errorf("%s is being replaced all the time", guardPath(path))
}

// tryGuard opens and locks the file, which is made only if it is not there: in a
// folder with the sticky bit, Linux refuses O_CREAT for a file of another user
// even to root.
func tryGuard(path string) (*flock.Flock, error) {
	for _, create := range []int{0, os.O_CREATE} {
		l := flock.New(path, flock.SetFlag(os.O_RDWR|create|disk.OpenFlags), flock.SetPermissions(0o600))
		locked, err := l.TryLock()
		if create == 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, disk.Explain(path, err)
		}
		if locked {
			return l, nil
		}
		return nil, nil
	}
	return nil, nil
}

// leadsTo reports whether the path still leads to the locked file.
func leadsTo(l *flock.Flock) (bool, error) {
	locked, err := l.Stat()
	if err != nil {
		return false, err
	}
	if !locked.Mode().IsRegular() {
		return false, &disk.NotRegularError{Path: l.Path(), Mode: locked.Mode()}
	}
	there, err := os.Lstat(l.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(locked, there), err
}

// excludes tries out that a second handle is kept out: there are file systems
// on which a lock succeeds and means nothing.
func excludes(l *flock.Flock) error {
	second := flock.New(l.Path(), flock.SetFlag(os.O_RDWR|disk.OpenFlags))
	locked, err := second.TryLock()
	if locked {
		_ = second.Unlock()
		return &disk.UntrustedError{Dir: filepath.Dir(l.Path()), FS: "a file system whose locks let two holders in"}
	}
	return err
}

func (g *guard) unlock() { _ = g.lock.Unlock() }

// memory is what the guard's file remembers of whoever acquired last. It stands
// behind the first byte, which Windows keeps from others while it is locked.
type memory struct {
	InstanceID string `json:"instance_id"`
	PID        int    `json:"pid"`
	Epoch      uint64 `json:"epoch"`
}

const (
	memoryOffset = 1
	memorySize   = 255
)

// open opens the locked file a second time, to read and write: flock keeps its
// own handle to itself. The path can have come to lead to another guard, whose
// memory belongs to whoever holds that.
func (g *guard) open() (*os.File, error) {
	f, info, err := disk.Open(g.lock.Path(), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGuardGone
	}
	if err != nil {
		return nil, err
	}
	locked, err := g.lock.Stat()
	if err == nil && !os.SameFile(locked, info) {
		err = errGuardGone
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (g *guard) recall() (memory, error) {
	f, err := g.open()
	if err != nil {
		return memory{}, err
	}
	defer f.Close()
	return readMemory(f), nil
}

// readMemory returns the zero memory where there is none that can be read.
func readMemory(f *os.File) (m memory) {
	var buf [memorySize]byte
	n, _ := f.ReadAt(buf[:], memoryOffset)
	if json.Unmarshal(buf[:n], &m) != nil || !isInstanceID(m.InstanceID) || m.Epoch > maxNumber {
		return memory{}
	}
	return m
}

func (g *guard) remember(m memory) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := g.open()
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(fmt.Sprintf("%-*s\n", memorySize-1, b)), memoryOffset)
	return errors.Join(err, f.Close())
}

// whoGuards tells who was acquiring last, for the message of whoever waits.
func whoGuards(path string) string {
	f, _, err := disk.Open(guardPath(path), os.O_RDONLY, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if m := readMemory(f); m.PID != 0 {
		return fmt.Sprintf(" (last taken by pid %d)", m.PID)
	}
	return ""
}
