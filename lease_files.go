package owner

import (
	"context"
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

	"github.com/ownerlease/owner/internal/disk"
)

// The files of a lease, beside its record.
func guardPath(path string) string     { return path + ".lock" }
func alivePath(path, id string) string { return path + "." + id + aliveSuffix }
func tempPath(path, id string) string  { return path + "." + id + ".tmp" }

// lastPath is a second name of the alive file of the instance that has acquired last, which
// can be found without knowing whose it is.
func lastPath(path string) string { return path + ".last" }

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
	rec, err := s.untilWhole(func() (*diskRecord, error) {
		now = s.Now()
		return s.readFile()
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
func (p *process) untilWhole(read func() (*diskRecord, error)) (rec *diskRecord, err error) {
	var corrupt *corruptError
	for try := range 4 {
		if try > 0 {
			_ = p.Sleep(context.Background(), time.Duration(try*try)*50*time.Microsecond)
		}
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

func (s *fileStore) readFile() (*diskRecord, error) {
	f, err := s.Open(s.path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rec, err := readOpen(f)
	if err != nil {
		return nil, err
	}
	if rec.File != f.Number() {
		// A copy, say from a backup: its heartbeat is not the owner's.
		return nil, &corruptError{why: "not the file that its owner wrote, but a copy", ours: true}
	}
	return rec, nil
}

// readOpen reads the record in a file, whatever its path leads to by now.
func readOpen(f disk.File) (*diskRecord, error) {
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
	if s.comparable(seen) {
		return rec.Heartbeat + ttl - now
	}
	return s.watched(rec.beat(), now) + ttl - now
}

// comparable reports whether the heartbeat of a record is a reading of our clock.
func (s *fileStore) comparable(seen sighting) bool {
	rec := seen.rec
	return rec.Clock != "" && rec.Clock == s.Clock() && rec.Heartbeat <= seen.now
}

// A heartbeat of another clock.
type heartbeat struct {
	Instance  string        `json:"instance_id"`
	Heartbeat time.Duration `json:"heartbeat"`
}

func (r *diskRecord) beat() heartbeat { return heartbeat{r.InstanceID, r.Heartbeat} }

// A firstSight says which heartbeat has been seen last at a path, and when first. A
// process remembers it, as Join may be called again and again; and the guard does, as
// processes may come and go within less than a TTL, none of which sees it expire.
type firstSight struct {
	heartbeat
	At    time.Duration `json:"at"`    // after the reading that showed it
	Clock string        `json:"clock"` // of At
}

// watched returns since when, by our clock, the heartbeat has been the last. The
// owner wrote it before it was first seen: a full TTL later it has expired.
func (s *fileStore) watched(h heartbeat, now time.Duration) time.Duration {
	if v, ok := s.sightings.Load(s.path); ok && v.(firstSight).heartbeat == h {
		return v.(firstSight).At
	}
	first := firstSight{h, max(s.Now(), now), s.Clock()}
	if told := s.recall().Sight; s.counts(told, h) && told.At < first.At {
		first.At = told.At
	}
	s.sightings.Store(s.path, first)
	return first.At
}

// counts reports whether what another process has seen is of this heartbeat, and of a
// clock that is ours.
func (s *fileStore) counts(told *firstSight, h heartbeat) bool {
	return told != nil && told.heartbeat == h && told.Clock != "" && told.Clock == s.Clock()
}

// untold reports whether a heartbeat that only time can judge is to be kept in the
// guard for the processes that come after this one.
func (s *fileStore) untold(seen sighting, told *firstSight) bool {
	return seen.rec != nil && s.Clock() != "" && !s.comparable(seen) && !s.counts(told, seen.rec.beat())
}

// liveness is what an alive file tells of its instance.
type liveness int

const (
	unknown liveness = iota // the file cannot be opened: only time can tell
	gone                    // there is no file: released, or cleaned away
	lives                   // its process exists, stopped or not
	dead
)

// maybe reports whether the instance is not known to have ended.
func (l liveness) maybe() bool { return l != dead && l != gone }

// alive tries the lock that an instance holds for its whole life, and that the
// kernel frees when its process ends. The lock is tried shared: two who look at
// the same time must not take each other for the owner.
//
// number is that of the file, as far as it is known: a file that was put in its
// place has another, and says nothing.
func (s *fileStore) alive(id string, number uint64) liveness {
	return s.aliveAt(alivePath(s.path, id), number)
}

func (s *fileStore) aliveAt(path string, number uint64) liveness {
	l, err := s.RLock(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gone
	case err != nil:
		return unknown
	case l == nil:
		return lives
	}
	defer l.Unlock()
	// An owner that has put another file in its place lets go of this one.
	if same, err := l.At(path); err != nil || !same {
		return unknown
	}
	if number != 0 && l.Number() != number {
		return unknown
	}
	return dead
}

// lockAlive makes and locks an instance's own alive file. It stays open for writing:
// on Linux, its close then tells the others that its owner has ended (internal/hint).
func (p *process) lockAlive(path string) (disk.Lock, error) {
	// A process that tries the lock holds it for a moment: the name is found by those
	// that search the folder.
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

// markLast gives the alive file of an instance its second name. Where the file
// system has no links, its first one has to do: no reason to fail.
func (s *fileStore) markLast(id string) error {
	if err := s.Link(alivePath(s.path, id), lastPath(s.path)); errors.Is(err, fs.ErrExist) {
		if err := s.checkLast(); err != nil {
			return err
		}
		_ = s.Remove(lastPath(s.path)) // of the one before
		_ = s.Link(alivePath(s.path, id), lastPath(s.path))
	}
	return nil
}

// instances returns the ids of all instances that have files beside the record, as
// far as the first most files of the folder show them: all if that is negative.
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
		if isInstanceID(id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
