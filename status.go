package owner

import (
	"io/fs"
	"time"
)

// Condition is the state of a lease's owner as seen from outside.
type Condition string

const (
	// Live: the owner's process exists and its lease is valid.
	Live Condition = "live"
	// Unconfirmed: the lease may be valid, but it is unknown whether the owner's process
	// exists, as its alive file was removed or cannot be opened.
	Unconfirmed Condition = "unconfirmed"
	// Hung: the owner's process exists, but has let its lease expire.
	Hung Condition = "hung"
	// Dead: the owner's process has ended without a release.
	Dead Condition = "dead"
	// Expired: the lease has expired, and it is unknown whether the owner's process
	// exists.
	Expired Condition = "expired"
	// Released: the owner has released the lease.
	Released Condition = "released"
	// Revoked: the lease was taken away from its owner. Until that has stopped, or the
	// lease has expired, no other instance can own it, and Remaining is positive.
	Revoked Condition = "revoked"
)

// Status is a lease as seen from outside.
type Status struct {
	Record    Record
	Condition Condition
	// Remaining is how long the lease still lasts if it is not renewed, 0 if it is not
	// owned. Where the owner's clock cannot be compared, it is an upper bound.
	Remaining time.Duration

	store *fileStore // for KillHolder; nil where it is not of a lease file
}

// Owned reports whether the lease is taken: no other can own it now.
func (s Status) Owned() bool {
	return s.Condition == Live || s.Condition == Unconfirmed || s.Condition == Revoked && s.Remaining > 0
}

// Probe reads the record at path, and checks whether its owner is alive. Where there is
// no record, but an instance of the lease is alive, as when a user has removed a live
// owner's record, the Record has only its InstanceID. Probe fails like Inspect.
func Probe(path string) (Status, error) {
	s, seen, err := look(path)
	switch {
	case err != nil:
		return Status{}, err
	case seen.damage != nil:
		return Status{}, seen.damage
	case seen.rec == nil:
		holder, _, err := s.findHolderWithoutRecord(seen, s.loadLast())
		switch {
		case err != nil: // not fs.ErrNotExist: another may own the lease
			return Status{}, err
		case holder == nil:
			return Status{}, noRecord(path)
		}
		return Status{Record: *holder, Condition: Live, store: s}, nil
	}
	st := Status{Record: seen.rec.public(), Remaining: max(0, s.remaining(seen)), store: s}
	owned := false
	if st.Condition, owned = s.condition(seen.rec, st.Remaining); !owned {
		st.Remaining = 0
	}
	return st, nil
}

// Inspect reads the record at path, without joining the lease. The
// error matches fs.ErrNotExist where there is no record, and [ErrCorruptRecord]
// where it cannot be read. That there is a record does not mean that its owner is still
// alive: see Probe.
func Inspect(path string) (Record, error) {
	_, seen, err := look(path)
	switch {
	case err != nil:
		return Record{}, err
	case seen.damage != nil:
		return Record{}, seen.damage
	case seen.rec == nil:
		return Record{}, noRecord(path)
	}
	return seen.rec.public(), nil
}

// look reads the record at path.
func look(path string) (*fileStore, observation, error) {
	s, err := newFileStore(path)
	if err != nil {
		return nil, observation{}, err
	}
	seen, err := s.read()
	return s, seen, explain(err)
}

func noRecord(path string) error {
	return &fs.PathError{Op: "read lease", Path: path, Err: fs.ErrNotExist}
}

// condition returns the condition of the record's owner, and whether it owns the lease.
func (s *fileStore) condition(rec *diskRecord, remaining time.Duration) (c Condition, owned bool) {
	alive := s.alive(rec.InstanceID, rec.Alive)
	ended := alive == dead || alive == noFile && s.ended(rec)
	switch {
	case rec.Revoked && (rec.Released || ended):
		return Revoked, false // an owner that stops because of the revocation does not write to this record
	case rec.Released:
		return Released, false
	case ended:
		return Dead, false
	case remaining <= 0 && alive == live:
		return Hung, false
	case remaining <= 0:
		return Expired, false
	case rec.Revoked:
		return Revoked, true
	case alive == live:
		return Live, true
	}
	return Unconfirmed, true
}
