package reach

import (
	"errors"
	"fmt"

	"github.com/ownerlease/owner"
)

// Errors to test for with errors.Is.
var (
	// ErrNoOwner: no owner has accepted the request in time. No handler has begun with
	// it, and none will: it can be sent again, whatever its method. Where a context
	// has ended the wait, the error matches the context's, too.
	ErrNoOwner = errors.New("reach: no owner")

	// ErrOutcomeUnknown: an owner may have begun with the request, and no answer has
	// come; whether it took effect is not known. Ask the service what it has done before
	// sending the request again; or give requests an Idempotency-Key that the service
	// understands, and they are sent again.
	ErrOutcomeUnknown = errors.New("reach: outcome unknown")
)

// errClosed says so of a request that has not begun.
var errClosed = &noOwnerError{"the Client is closed", nil}

// A noOwnerError says why a request was given up that has not begun.
type noOwnerError struct {
	why string
	err error // nil, or what has kept the request from an owner
}

func (e *noOwnerError) Error() string {
	s := ErrNoOwner.Error() + ": " + e.why
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}

func (e *noOwnerError) Unwrap() error { return e.err }

func (e *noOwnerError) Is(target error) bool { return target == ErrNoOwner }

// An unknownError says which owner may have done what was asked for.
type unknownError struct {
	method string
	to     *owner.Record
	why    string
	err    error
}

func (e *unknownError) Error() string {
	return fmt.Sprintf("%v: %s to instance %s (epoch %d, pid %d): %s: ask the service what it has done before sending it again: %v",
		ErrOutcomeUnknown, e.method, e.to.InstanceID, e.to.Epoch, e.to.PID, e.why, e.err)
}

func (e *unknownError) Unwrap() []error { return []error{ErrOutcomeUnknown, e.err} }
