package sqlfence

import (
	"errors"
	"fmt"
)

// Errors to test for with errors.Is. All other errors are those of the database's
// driver, with what was tried.
var (
	// ErrFenced: a later owner of the lease has raised the fence. Nothing of the
	// transaction is written, and nothing will be in this epoch: stop.
	ErrFenced = errors.New("sqlfence: fenced by a later owner")

	// ErrNotRaised: this epoch has not raised the fence in this database, so what was
	// read from it may be of before the takeover. Call [Fence.Raise], and read again.
	ErrNotRaised = errors.New("sqlfence: the fence is not raised")

	// ErrKeyReused: [Once] got a key again that belongs to another request. Clients that
	// share keys by mistake get it; trying again cannot help.
	ErrKeyReused = errors.New("sqlfence: idempotency key of another request")

	// ErrInvalid: an argument, or a result of [Once], cannot be used. Nothing is written
	// for it, and trying again cannot help.
	ErrInvalid = errors.New("sqlfence: invalid argument")

	// ErrSchema: a table of this package's name is not one that this version can use. It
	// is left as it is.
	ErrSchema = errors.New("sqlfence: table cannot be used")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
