package pgstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ownerlease/owner"
)

var (
	errSlow     = errors.New("no answer")
	errReadOnly = errors.New("the server is a replica, which accepts no writes")
	errWarned   = errors.New("the server has committed, but not as it was asked to")
	errLocked   = errors.New("another transaction has locked the row of the lease in owner_lease")
	errEmpty    = errors.New("the table owner_lease was not set up, or its anchor, the row with the empty key, was deleted")
	errClosed   = errors.New("the DB was closed")
)

// A connectError says that there is no connection, so that nothing was sent.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// An unanswered error says why a request is waited for no longer, and what it has failed with
// before that, nil if it has not.
type unanswered struct{ cause, before error }

func (e unanswered) Error() string {
	if e.before == nil {
		return e.cause.Error()
	}
	return e.cause.Error() + ": " + e.before.Error()
}

func (e unanswered) Unwrap() []error { return []error{e.cause, e.before} }

// lockNotAvailable is the server's code where it has waited for a row that is locked.
const lockNotAvailable = "55P03"

// notSerializable is its code for a row that others have changed, where transactions are by
// default at REPEATABLE READ or SERIALIZABLE.
const notSerializable = "40001"

// An opaque error is a passing one of which only the text is known.
type opaque struct{ error }

func (opaque) Is(target error) bool { return target == errSlow }

// sqlState returns the code of the server's error, "" if it is not one.
func sqlState(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// isPassing reports whether an error can pass by itself: the request got no answer, or was
// refused for now.
func isPassing(err error) bool {
	switch code := sqlState(err); {
	case code == "25006", code == "55000", code == lockNotAvailable:
		// Read-only: a replica, or a primary that is one now. Recovery is in progress. Locked.
		return true
	case code != "":
		switch code[:2] {
		case "08", "40", "53", "57", "58": // connection, conflict, resources, operator, system
			return true
		}
		return false
	}
	var network net.Error
	var connect *pgconn.ConnectError
	switch {
	case errors.Is(err, errReadOnly), errors.Is(err, errWarned), errors.Is(err, errSlow), errors.Is(err, errLocked):
		return true
	case errors.As(err, &connect), errors.As(err, &network), errors.As(err, new(connectError)):
		return true
	case errors.Is(err, owner.ErrInvalidConfig), errors.Is(err, owner.ErrCorruptRecord):
		return false
	}
	return pgconn.SafeToRetry(err) || isBroken(err)
}

// isBroken reports whether the error is that of a connection that has ended.
func isBroken(err error) bool {
	var refused *pgconn.PgError
	return err != nil && !errors.As(err, &refused) &&
		(errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "conn closed") ||
			strings.Contains(err.Error(), "closed network connection"))
}

// failed says what was tried, and what the user can do about it. Where ctx has ended, its
// cause is the error, which says why there was no answer before, if that is known.
func (db *DB) failed(ctx context.Context, what string, err error) error {
	what += " at " + db.String()
	var none unanswered
	errors.As(err, &none)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		err = opaque{err} // it is about the server's socket, and not about the lease
	}
	code := sqlState(err)
	switch {
	case ctx.Err() != nil && none.before != nil:
		return fmt.Errorf("%s: %w: %v", what, context.Cause(ctx), none.before)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case db.ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, errClosed)
	case errors.Is(err, owner.ErrInvalidConfig), errors.Is(err, owner.ErrCorruptRecord):
		return fmt.Errorf("%w (%s)", err, what)
	case code == "42P01":
		return fmt.Errorf("%w: %s: there is no table owner_lease in the search_path: run owner-pg setup, or call pgstore.Setup: %w", owner.ErrInvalidConfig, what, err)
	case code == "42703", code == "42804", code == "42883", code == "42P10":
		return fmt.Errorf("%w: %s: the table owner_lease is of another version or another program's, or the server is older than Postgres 12: %w", owner.ErrInvalidConfig, what, err)
	case code == "42501":
		return fmt.Errorf("%w: %s: the role needs USAGE on the schema, SELECT, INSERT and UPDATE on owner_lease, and EXECUTE on pg_control_system(); it needs CREATE on the schema to set the table up: %w",
			owner.ErrInvalidConfig, what, err)
	case code == "22P05", code == "22021":
		return fmt.Errorf("%w: %s: the encoding of the database cannot express the key, or the metadata: %w", owner.ErrInvalidConfig, what, err)
	case code == "57014":
		return fmt.Errorf("%w: %s: the server has cancelled the statement, by its statement_timeout or an administrator: %w", owner.ErrUnavailable, what, err)
	case code == lockNotAvailable:
		return fmt.Errorf("%w: %s: %w (see pg_locks): %w", owner.ErrUnavailable, what, errLocked, err)
	case isRefused(err):
		return fmt.Errorf("%w: %s: %w", owner.ErrInvalidConfig, what, err)
	case isPassing(err):
		return fmt.Errorf("%w: %s: %w", owner.ErrUnavailable, what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isRefused reports whether the server does not let this client in: the role, the password,
// the database.
func isRefused(err error) bool {
	switch sqlState(err) {
	case "28000", "28P01", "3D000":
		return true
	}
	return false
}
