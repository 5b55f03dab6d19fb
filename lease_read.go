package owner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/ownerlease/owner/internal/disk"
)

// An observation is the result of one read: a record, or none (rec is nil), or a damaged
// one of ours.
type observation struct {
	// now is the clock's reading from before the record was read. A renewal that
	// counts was finished before its old deadline; if that has passed at now, then
	// the renewal was finished before now, and the reading has seen it.
	now    time.Duration
	rec    *diskRecord
	damage error
}

// read reads the record. A file that is not ours is an error: it must not be overwritten.
func (s *fileStore) read() (observation, error) {
	var now time.Duration
	rec, err := s.retryTornRead(func() (*diskRecord, error) {
		now = s.Now()
		return s.readFile()
	})
	var corrupt *corruptError
	switch {
	case err == nil:
		return observation{now: now, rec: rec}, nil
	case errors.Is(err, fs.ErrNotExist):
		return observation{now: now}, nil
	case errors.As(err, &corrupt) && corrupt.ours:
		return observation{damage: s.corrupt(err)}, nil
	}
	return observation{}, s.corrupt(err)
}

// retryTornRead reads again where the record is damaged: a read can overlap a renewal,
// and the next one then sees the record whole.
func (p *process) retryTornRead(read func() (*diskRecord, error)) (rec *diskRecord, err error) {
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

// corrupt names the lease in the error of a corrupt record; it leaves others as they are.
func (s *fileStore) corrupt(err error) error {
	var corrupt *corruptError
	if !errors.As(err, &corrupt) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrCorruptRecord, s.path, err)
}

// buffers spare each read an allocation of a page.
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

// readOpen reads the record in an open file, which its path may no longer lead to.
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
func (s *fileStore) remaining(seen observation) time.Duration {
	rec, now := seen.rec, seen.now
	ttl := rec.public().TTL
	if s.comparable(seen) {
		return rec.Heartbeat + ttl - now
	}
	return s.firstSeenAt(rec.beat(), now) + ttl - now
}

// comparable reports whether the heartbeat of a record is a reading of our clock.
func (s *fileStore) comparable(seen observation) bool {
	rec := seen.rec
	return rec.Clock != "" && rec.Clock == s.Clock() && rec.Heartbeat <= seen.now
}

// A heartbeat of another clock.
type heartbeat struct {
	Instance  string        `json:"instance_id"`
	Heartbeat time.Duration `json:"heartbeat"`
}

func (r *diskRecord) beat() heartbeat { return heartbeat{r.InstanceID, r.Heartbeat} }

// A firstSeen holds the heartbeat that was seen last at a path, and when it was first
// seen. A process keeps it, as Join may be called again and again. The guard's file keeps
// it, too, as processes may come and go within less than a TTL, and none would see it
// expire.
type firstSeen struct {
	heartbeat
	At    time.Duration `json:"at"`    // after the reading that showed it
	Clock string        `json:"clock"` // of At
}

// firstSeenAt returns since when, by our clock, the heartbeat has been the last. The
// owner wrote it before it was first seen: a full TTL later it has expired.
func (s *fileStore) firstSeenAt(h heartbeat, now time.Duration) time.Duration {
	if v, ok := s.firstSeens.Load(s.path); ok && v.(firstSeen).heartbeat == h {
		return v.(firstSeen).At
	}
	first := firstSeen{h, max(s.Now(), now), s.Clock()}
	if told := s.loadLast().FirstSeen; s.counts(told, h) && told.At < first.At {
		first.At = told.At
	}
	s.firstSeens.Store(s.path, first)
	return first.At
}

// counts reports whether what another process has seen is this heartbeat, timed by our
// clock.
func (s *fileStore) counts(told *firstSeen, h heartbeat) bool {
	return told != nil && told.heartbeat == h && told.Clock != "" && told.Clock == s.Clock()
}

// unsaved reports whether a heartbeat whose expiry only observation can decide is to be
// kept in the guard for later processes.
func (s *fileStore) unsaved(seen observation, told *firstSeen) bool {
	return seen.rec != nil && s.Clock() != "" && !s.comparable(seen) && !s.counts(told, seen.rec.beat())
}
