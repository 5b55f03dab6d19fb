package owner

import (
	"context"
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

	"github.com/ownerlease/owner/internal/disk"
)

// The files of a lease, beside its record.
func guardPath(path string) string     { return path + ".lock" }
func alivePath(path, id string) string { return path + "." + id + aliveSuffix }
func tempPath(path, id string) string  { return path + "." + id + ".tmp" }

// lastPath is a second name of the alive file of whoever has acquired last, which
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
	if rec.Clock != "" && rec.Clock == s.Clock() && rec.Heartbeat <= now {
		return rec.Heartbeat + ttl - now
	}
	return s.watched(heartbeat{rec.InstanceID, rec.Heartbeat}, now) + ttl - now
}

// A heartbeat of another clock.
type heartbeat struct {
	instance string
	at       time.Duration
}

// A firstSight says which heartbeat a process has seen last at a path, and when
// first. The process remembers it, and not the store, as Join may be called again
// and again.
type firstSight struct {
	heartbeat
	at time.Duration // by our clock, after the reading that showed it
}

// watched returns since when, by our clock, the heartbeat has been the last. The
// owner wrote it before we first saw it: a full TTL later it has expired.
func (s *fileStore) watched(h heartbeat, now time.Duration) time.Duration {
	if v, ok := s.sightings.Load(s.path); ok && v.(firstSight).heartbeat == h {
		return v.(firstSight).at
	}
	first := firstSight{h, max(s.Now(), now)}
	s.sightings.Store(s.path, first)
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

// lockAlive makes and locks an instance's own alive file.
func (p *process) lockAlive(path string) (disk.Lock, error) {
	// Whoever tries the lock holds it for a moment: the name is found by those who
	// search the folder.
	for try := range 100 {
		l, err := p.Lock(path, os.O_RDWR|os.O_CREATE)
		if l != nil || err != nil {
			return l, err
		}
		_ = p.Sleep(context.Background(), time.Duration(try)*10*time.Microsecond)
	}
	return nil, fmt.Errorf("%s: somebody else holds the lock of a file that was made just now", path)
}

// markLast gives the alive file of an instance its second name. Where the file
// system has no links, its first one has to do: no reason to fail.
func (s *fileStore) markLast(id string) {
	if err := s.Link(alivePath(s.path, id), lastPath(s.path)); errors.Is(err, fs.ErrExist) {
		_ = s.Remove(lastPath(s.path)) // of the one before
		_ = s.Link(alivePath(s.path, id), lastPath(s.path))
	}
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

// remove removes what dead instances have left. Under the guard only.
func (s *fileStore) remove(ids []string) {
	for _, id := range ids {
		// Without an error to report: what stays harms nobody.
		_ = s.Remove(tempPath(s.path, id))
		_ = s.Remove(alivePath(s.path, id))
	}
}

// A guard excludes all others who want to acquire the lease. Its file is never
// removed: whoever holds a removed one would exclude nobody.
type guard struct {
	*process
	path string
	lock disk.Lock
}

// lockGuard locks the guard. It returns nil if somebody else has it.
func (s *fileStore) lockGuard() (*guard, error) {
	g := &guard{process: s.process, path: guardPath(s.path)}
	for range 10 {
		err := g.try()
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
		// Removed or exchanged between opening and locking: the next one locks
		// another file.
	}
	return nil, fmt.Errorf("%s is being replaced all the time", g.path)
}

// try opens and locks the file, which is made only if it is not there: in a
// folder with the sticky bit, Linux refuses O_CREAT for a file of another user
// even to root.
func (g *guard) try() (err error) {
	g.lock, err = g.Lock(g.path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		g.lock, err = g.Lock(g.path, os.O_RDWR|os.O_CREATE)
	}
	return err
}

// inPlace reports whether the path still leads to the locked file.
func (g *guard) inPlace() (bool, error) { return g.lock.At(g.path) }

// excludes tries out that a second handle is kept out: there are file systems
// on which a lock succeeds and means nothing.
func (g *guard) excludes() error {
	second, err := g.Lock(g.path, os.O_RDWR)
	if second != nil {
		_ = second.Unlock()
		return &disk.UntrustedError{Dir: filepath.Dir(g.path), FS: "a file system whose locks let two holders in"}
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
func (g *guard) open() (disk.File, error) {
	f, err := g.Open(g.path, os.O_RDWR)
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

func (g *guard) recall() (memory, error) {
	f, err := g.open()
	if err != nil {
		return memory{}, err
	}
	defer f.Close()
	return readMemory(f), nil
}

// recall is for those who do not hold the guard: it may be about to change.
func (s *fileStore) recall() memory {
	f, err := s.Open(guardPath(s.path), os.O_RDONLY)
	if err != nil {
		return memory{}
	}
	defer f.Close()
	return readMemory(f)
}

// readMemory returns the zero memory where there is none that can be read.
func readMemory(f disk.File) (m memory) {
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
func (s *fileStore) whoGuards() string {
	if m := s.recall(); m.PID != 0 {
		return fmt.Sprintf(" (last taken by pid %d)", m.PID)
	}
	return ""
}
