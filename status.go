package owner

import (
	"io/fs"
	"time"
)

// Condition is what can be told of a lease's owner from outside.
type Condition string

const (
	// Live: the owner's process exists and its lease is valid.
	Live Condition = "live"
	// Unconfirmed: the lease may be valid, and whether the owner's process exists
	// cannot be told: its alive file was removed, or cannot be opened.
	Unconfirmed Condition = "unconfirmed"
	// Hung: the owner's process exists, but has let its lease expire.
	Hung Condition = "hung"
	// Dead: the owner's process has ended without a release.
	Dead Condition = "dead"
	// Expired: the lease has expired, and whether the owner's process exists
	// cannot be told.
	Expired Condition = "expired"
	// Released: the owner has given the lease up.
	Released Condition = "released"
	// Revoked: the lease was taken away from its owner, which may not have stopped
	// yet. Nobody else can own before it has, or before the lease has run out.
	Revoked Condition = "revoked"
)

// Status is a lease as seen from outside.
type Status struct {
	Record    Record
	Condition Condition
	// Remaining is how long the lease still lasts if it is not renewed. Where the
	// owner's clock cannot be compared, it is an upper bound.
	Remaining time.Duration
}

// Owned reports whether the lease is taken: nobody else can own it now.
func (s Status) Owned() bool {
	return s.Condition == Live || s.Condition == Unconfirmed || s.Condition == Revoked
}

// Probe reads the record at path, and looks whether its owner lives. Where there
// is no record, but an instance of the lease lives, as when somebody has removed
// a live owner's record, the Record has no more than its InstanceID. Probe fails
// like Inspect.
func Probe(path string) (Status, error) {
	s, seen, err := look(path)
	switch {
	case err != nil:
		return Status{}, err
	case seen.damage != nil:
		return Status{}, seen.damage
	case seen.rec == nil:
		holder, _, err := s.judgeWithout(seen, s.recall())
		switch {
		case err != nil: // not that there is no record: somebody may own the lease
			return Status{}, err
		case holder == nil:
			return Status{}, noRecord(path)
		}
		return Status{Record: *holder, Condition: Live}, nil
	}
	st := Status{Record: seen.rec.public(), Remaining: max(0, s.remaining(seen))}
	st.Condition = s.condition(seen.rec, st.Remaining)
	if !st.Owned() {
		st.Remaining = 0
	}
	return st, nil
}

// look reads the record at path.
func look(path string) (*fileStore, sighting, error) {
	s, err := newFileStore(path)
	if err != nil {
		return nil, sighting{}, err
	}
	seen, err := s.read()
	return s, seen, explain(err)
}

func noRecord(path string) error {
	return &fs.PathError{Op: "read lease", Path: path, Err: fs.ErrNotExist}
}

func (s *fileStore) condition(rec *diskRecord, remaining time.Duration) Condition {
	alive := s.alive(rec.InstanceID, rec.Alive)
	switch {
	case rec.Released:
		return Released
	case alive == dead, alive == gone && s.ended(rec):
		return Dead
	case remaining <= 0 && alive == lives:
		return Hung
	case remaining <= 0:
		return Expired
	case rec.Revoked:
		return Revoked
	case alive == lives:
		return Live
	}
	return Unconfirmed
}
