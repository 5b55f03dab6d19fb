package owner

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors to test for with errors.Is. Each says whether trying again can help.
var (
	// ErrTakenOver: another instance owns the lease now. Joining again makes this
	// instance its follower.
	ErrTakenOver = errors.New("owner: taken over by another instance")

	// ErrExpired: the lease could not be renewed before its fence deadline. The disk, the
	// store or the scheduler was too slow. Join again.
	ErrExpired = errors.New("owner: lease not renewed in time")

	// ErrRevoked: the lease was taken away, with Revoke, or by removing the
	// lease's record, or replacing it by something that is not a record of this
	// lease. It was done on purpose, or by a cleaner of temporary files. Join again, but
	// find out why.
	ErrRevoked = errors.New("owner: lease revoked")

	// ErrUnhealthy: the work of this instance was not healthy for as long as
	// [Config.HealthTimeout]. Joining again is right when it is.
	ErrUnhealthy = errors.New("owner: work not healthy")

	// ErrReleased: this instance has released the lease. Join again to own it.
	ErrReleased = errors.New("owner: lease released")

	// ErrHandover: the owner has been asked to step down. It is the cause of the end of
	// the context that Run gives to its work, and what [RequestHandover] returns where the
	// owner has been asked before, for another successor: nothing is left to be done then,
	// or let that handover end first.
	ErrHandover = errors.New("owner: asked to step down")

	// ErrNoHolder: no instance owns the lease, so none can be asked to step down. Join:
	// it is free.
	ErrNoHolder = errors.New("owner: the lease has no owner")

	// ErrNotOwner: this instance is a follower.
	ErrNotOwner = errors.New("owner: not the owner")

	// ErrInvalidConfig: the configuration, or what is in the lease's place,
	// cannot be used. Trying again without a change cannot help.
	ErrInvalidConfig = errors.New("owner: invalid configuration")

	// ErrCorruptRecord: what is at the lease's path cannot be read as a record:
	// it is too large, damaged, in another format, or from a newer version. It is
	// left as it is. Where a live owner's record was damaged, the owner's next renewal
	// repairs it, and trying again can help; otherwise an operator must act.
	ErrCorruptRecord = errors.New("owner: unreadable lease record")

	// ErrUnavailable: the store does not answer, so nothing is known of the lease. A
	// server cannot be reached, a disk hangs, or a live owner's record is damaged until
	// its next renewal. Trying again can help; Campaign and Run do so, even after a
	// failed first attempt.
	ErrUnavailable = errors.New("owner: store unavailable")

	// ErrUnsupportedFilesystem: the lease's folder is on a file system whose
	// locks cannot be trusted. Use a folder on a local disk.
	ErrUnsupportedFilesystem = errors.New("owner: unsupported file system")
)

// An unavailable error matches [ErrUnavailable], and keeps its own text.
type unavailable struct{ error }

func (e unavailable) Unwrap() []error { return []error{e.error, ErrUnavailable} }

// LostError says why an ownership ended against its owner's will. It unwraps to
// Reason and, where there was one, to Err.
type LostError struct {
	// Reason is [ErrTakenOver], [ErrExpired], [ErrRevoked] or [ErrUnhealthy].
	Reason error
	// Err is the last error of the store before the loss, nil where none was
	// seen: a store that hangs returns no error.
	Err error
	// At is the wall-clock time at which the loss was noticed.
	At time.Time
	// SinceRenewal is how long before At the last renewal that counted was begun.
	SinceRenewal time.Duration
	// Epoch is the fencing token of the ownership that has ended.
	Epoch uint64
}

func (e *LostError) Error() string {
	s := e.Reason.Error()
	switch {
	case errors.Is(e.Err, e.Reason):
		s = e.Err.Error()
	case e.Err != nil:
		s += ": last error: " + e.Err.Error()
	}
	return fmt.Sprintf("%s (epoch %d, last renewed %v before)", s, e.Epoch, e.SinceRenewal.Round(time.Millisecond))
}

// Unwrap returns the reason and the last error of the store.
func (e *LostError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// An opError says what was tried. Its text begins with the package's name once, also
// where err is one of the package's.
type opError struct {
	op  string
	err error
}

func (e *opError) Error() string {
	return "owner: " + e.op + ": " + strings.TrimPrefix(e.err.Error(), "owner: ")
}

func (e *opError) Unwrap() error { return e.err }

// storeName names the lease that a store keeps.
func storeName(s Store) string {
	if named, ok := s.(fmt.Stringer); ok {
		return named.String()
	}
	return "a lease"
}
