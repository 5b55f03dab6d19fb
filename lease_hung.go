package owner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ownerlease/owner/internal/leasename"
)

// A hungError is the record of an owner that has let its lease expire, and whose process
// still exists: its alive lock is held.
type hungError struct{ rec *diskRecord }

func (e *hungError) Error() string {
	return fmt.Sprintf("instance %s, pid %d, hangs", e.rec.InstanceID, e.rec.PID)
}

func (s *fileStore) acquireUnlessHung(ctx context.Context, claim Record) (Acquisition, *Status, error) {
	acq, err := s.acquire(ctx, claim, true)
	var hung *hungError
	if errors.As(err, &hung) {
		return Acquisition{}, &Status{Record: hung.rec.public(), Condition: Hung, store: s}, nil
	}
	return acq, nil, err
}

// hangs returns a *hungError if the owner hangs.
// A user who may not acquire the lease is to evict no owner from it: the acquisition says
// so.
func (s *fileStore) hangs() error {
	guard, err := s.Open(leasename.Guard(s.path), os.O_RDWR)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err == nil {
		_ = guard.Close()
	}
	rec, err := s.hungOwner()
	if err == nil && rec != nil {
		err = &hungError{rec}
	}
	return err
}

// hungOwner returns the record of an owner that hangs, nil if there is none. It is for
// processes that do not hold the guard: also an owner that was stopped while it still held
// that is found. It does not change the lease, so no guard is needed.
func (s *fileStore) hungOwner() (*diskRecord, error) {
	seen, err := s.read()
	if err != nil || seen.rec == nil || seen.rec.Released || s.remaining(seen) > 0 {
		return nil, err
	}
	rec := seen.rec
	alive := s.alive(rec.InstanceID, rec.Alive)
	if alive == dead || alive != live && s.lastAlive() != live {
		return nil, nil
	}
	// The guard names an acquirer before L.last is that one's. If it is not the owner, and
	// may be alive, then the lease may be that one's: see findHolder.
	switch last := s.loadLast().InstanceID; {
	case last == rec.InstanceID:
	case alive != live, last != "" && s.mayLive(last):
		return nil, nil
	}
	return rec, nil
}

// holds reports whether the owner of this record, which has not released its lease, is
// seen to hold its alive lock, under either name. The guard is held.
func (s *fileStore) holds(rec *diskRecord) bool {
	switch s.alive(rec.InstanceID, rec.Alive) {
	case live:
		return true
	case dead:
		return false
	}
	return s.lastAlive() == live
}

// startOf returns what tells the process that claims the lease from others of its pid: it
// is known for this process only.
func (s *fileStore) startOf(pid int) string {
	if pid != s.PID() {
		return ""
	}
	return s.Started()
}
