package sqlfence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// maxName is how long a lease's name and an idempotency key may be, in bytes.
const maxName = 255

// Fence is an ownership as a database sees it. It holds nothing, and may be copied and
// used by several goroutines.
type Fence struct {
	// Lease names what is owned. All processes must use the same name: at most 255 bytes
	// of UTF-8, without a NUL. Names that differ in any byte are different leases.
	Lease string
	// Epoch is the ownership's fencing token, of owner.Owner.Epoch: from 1 to the
	// highest int64.
	Epoch uint64
	// Dialect is the kind of the database.
	Dialect Dialect
}

// check refuses what no database may see, before any does.
func (f Fence) check(db *sql.DB) (*statements, error) {
	s := f.Dialect.statements()
	switch {
	case db == nil:
		return nil, invalid("no database")
	case s == nil:
		return nil, invalid("%v: want SQLite, Postgres or MySQL", f.Dialect)
	case f.Lease == "" || len(f.Lease) > maxName:
		return nil, invalid("the lease's name has %d bytes: want 1 to %d", len(f.Lease), maxName)
	case !utf8.ValidString(f.Lease) || strings.Contains(f.Lease, "\x00"):
		return nil, invalid("the lease's name %q is not UTF-8, or has a NUL", f.Lease)
	case f.Epoch == 0:
		return nil, invalid("epoch 0: an owner's is higher")
	case f.Epoch > math.MaxInt64:
		return nil, invalid("epoch %d: databases have none above %d", f.Epoch, int64(math.MaxInt64))
	}
	return s, nil
}

// Tx runs fn in a transaction that commits only if no later owner has raised the fence
// by then, as a later owner's [Fence.Raise] waits for it. Where one has, Tx returns
// [ErrFenced] without calling fn; where this epoch was not raised, [ErrNotRaised].
//
// The transaction is committed when fn returns nil, and rolled back when fn returns an
// error, which Tx returns as it is, or panics, or when ctx ends. fn must use tx for all
// of its work, return the first error of any statement (a database can end the
// transaction with an error, and run what follows outside of it), and not end the
// transaction itself. MySQL commits at statements such as CREATE TABLE: Tx then returns
// an error, but what fn had done by then is written, and what it did afterwards was not
// fenced.
//
// opts are those of [sql.DB.BeginTx]; nil is the database's default isolation. A
// read-only transaction is refused, as it takes no lock. At the isolations of snapshots,
// Postgres can fail the transaction with a serialization error, which is returned, and
// can be tried again.
//
// An error of the commit itself leaves open whether the transaction took effect, if the
// connection was lost: [Once] finds out.
func (f Fence) Tx(ctx context.Context, db *sql.DB, opts *sql.TxOptions, fn func(*sql.Tx) error) error {
	s, err := f.check(db)
	switch {
	case err != nil:
		return err
	case fn == nil:
		return invalid("no function")
	case opts != nil && opts.ReadOnly:
		return invalid("a read-only transaction cannot lock the fence: read without Tx")
	}
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return f.failed("begin", err)
	}
	defer tx.Rollback() // when fn panics as well; after a commit it does nothing
	if err := f.enter(ctx, tx, s); err != nil {
		_ = tx.Rollback() // a database with one connection has none to look with otherwise
		return f.explain(ctx, db, s, err)
	}
	c := track(tx, s, f.Lease)
	defer c.forget(tx)
	if err := fn(tx); err != nil {
		return err
	}
	if err := c.failure(); err != nil {
		return err
	}
	return f.commit(ctx, tx, s)
}

// mark names the savepoint that shows whether fn has ended a transaction of MySQL.
const mark = "owner_fence"

// enter makes the transaction one of this epoch.
func (f Fence) enter(ctx context.Context, tx *sql.Tx, s *statements) error {
	if s.lock != "" {
		locked, err := tx.ExecContext(ctx, s.lock, f.Lease, int64(f.Epoch))
		if err != nil {
			return f.failed("lock the fence", err)
		}
		if n, err := locked.RowsAffected(); err == nil && n == 1 {
			return nil
		} // else read says why
	}
	epoch, err := f.row(ctx, tx, s.read)
	switch {
	case err != nil:
		return err
	case epoch > f.Epoch:
		return f.fencedBy(epoch)
	case epoch < f.Epoch:
		return f.notRaised()
	}
	if s.dialect != MySQL {
		return nil
	}
	if _, err := tx.ExecContext(ctx, "SAVEPOINT "+mark); err != nil {
		return f.failed("set a savepoint", err)
	}
	return nil
}

// commit ends the transaction. In MySQL, it first asks whether this is still the one that
// has locked the fence: a statement that commits, and an error that rolls back, have
// ended it along with its savepoints.
func (f Fence) commit(ctx context.Context, tx *sql.Tx, s *statements) error {
	if s.dialect == MySQL {
		if _, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT "+mark); err != nil && ctx.Err() == nil && !errors.Is(err, sql.ErrTxDone) {
			return f.failed("commit: if the savepoint does not exist, the function has ended the transaction (in MySQL, CREATE, ALTER and the like commit it, a deadlock rolls it back), and what it did afterwards was not fenced", err)
		}
	}
	err := tx.Commit()
	switch ended := ctx.Err(); {
	case err == nil:
		return nil
	case !errors.Is(err, sql.ErrTxDone):
		return f.failed("commit", err)
	case ended != nil: // and the transaction with it, before the commit
		return f.failed("commit", ended)
	}
	return f.failed("commit: the function has ended the transaction", err)
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// row reads the epoch of the lease's row; 0 if there is none.
func (f Fence) row(ctx context.Context, q querier, query string) (uint64, error) {
	rows, err := q.QueryContext(ctx, query, f.Lease)
	if err != nil {
		return 0, f.failed("read the fence", err)
	}
	defer rows.Close()
	var found uint64
	for n := 0; rows.Next(); n++ {
		var lease string
		var epoch, v int64
		switch err := rows.Scan(&lease, &epoch, &v); {
		case err != nil:
			return 0, fmt.Errorf("%w: owner_fence: %w", ErrSchema, err)
		case v != version:
			return 0, fmt.Errorf("%w: owner_fence has version %d for the lease %q, and this package writes %d: all owners must use the same", ErrSchema, v, f.Lease, version)
		case lease != f.Lease || n > 0 || epoch < 1:
			return 0, fmt.Errorf("%w: owner_fence has the lease %q with epoch %d where %q is looked for: was it made with other columns than Dialect.Schema says?", ErrSchema, lease, epoch, f.Lease)
		}
		found = uint64(epoch)
	}
	if err := rows.Err(); err != nil {
		return 0, f.failed("read the fence", err)
	}
	return found, nil
}

// explain finds the reason for what the database has refused: a lock that failed because
// the row had changed means a later owner, and a table that does not exist, that the
// fence was never raised. Otherwise it is the error that the database gave.
func (f Fence) explain(ctx context.Context, db *sql.DB, s *statements, err error) error {
	for _, known := range []error{ErrFenced, ErrNotRaised, ErrSchema} {
		if errors.Is(err, known) {
			return err
		}
	}
	if ctx.Err() != nil {
		return err
	}
	if epoch, peeked := f.row(ctx, db, s.peek); peeked == nil && epoch > f.Epoch {
		return fmt.Errorf("%w: %w", f.fencedBy(epoch), err)
	}
	if columns, _, looked := s.table(ctx, db, "owner_fence"); looked == nil && len(columns) == 0 {
		return fmt.Errorf("%w: %w", f.notRaised(), err)
	}
	return err
}

func (f Fence) fencedBy(epoch uint64) error {
	return fmt.Errorf("%w: lease %q is at epoch %d, and this owner's is %d", ErrFenced, f.Lease, epoch, f.Epoch)
}

func (f Fence) notRaised() error {
	return fmt.Errorf("%w: call Raise for epoch %d of the lease %q after the election, before anything is read", ErrNotRaised, f.Epoch, f.Lease)
}

// failed is an error of the database, with what was tried.
func (f Fence) failed(tried string, err error) error {
	return fmt.Errorf("sqlfence: %s (lease %q, epoch %d): %w", tried, f.Lease, f.Epoch, err)
}
