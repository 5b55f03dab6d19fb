package sqltest

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/ownerlease/owner/sqlfence"
)

var errMine = errors.New("mine")

// What ends a transaction without a commit leaves nothing, and the next one works.
func TestNoCommit(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		db, f := b.new(t), b.fence("lease", 1)
		db.SetMaxOpenConns(1) // a connection that is not given back would show
		raise(t, f, db)
		ends := map[string]func(t *testing.T, tx *sql.Tx, cancel func()) error{
			"error":  func(*testing.T, *sql.Tx, func()) error { return errMine },
			"panic":  func(*testing.T, *sql.Tx, func()) error { panic(errMine) },
			"goexit": func(*testing.T, *sql.Tx, func()) error { runtime.Goexit(); return nil },
			"context": func(t *testing.T, tx *sql.Tx, cancel func()) error {
				cancel()
				return nil
			},
			"rollback": func(t *testing.T, tx *sql.Tx, cancel func()) error { return tx.Rollback() },
		}
		for name, end := range ends {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var err error
				var panicked any
				done := make(chan bool)
				go func() {
					defer close(done)
					defer func() { panicked = recover() }()
					err = f.Tx(ctx, db, b.opts(), func(tx *sql.Tx) error {
						if err := write(t.Context(), tx, 1, 1); err != nil {
							return err
						}
						return end(t, tx, cancel)
					})
				}()
				<-done
				switch name {
				case "error":
					if err != errMine {
						t.Errorf("the function's error came back as %v", err)
					}
				case "panic":
					if panicked != errMine {
						t.Errorf("the panic is %v", panicked)
					}
				case "context":
					wantError(t, err, context.Canceled)
				case "rollback":
					wantError(t, err, sql.ErrTxDone)
				}
				if n := count(t, db, "journal"); n != 0 {
					t.Errorf("%d rows are written", n)
				}
				if err := f.Tx(t.Context(), db, b.opts(), func(*sql.Tx) error { return nil }); err != nil {
					t.Errorf("the next transaction: %v", err)
				}
			})
		}
	})
}

// A function that ends the transaction itself is told so: what it does afterwards is not
// fenced.
func TestFunctionEndsTheTransaction(t *testing.T) {
	each(t, kinds, func(t *testing.T, b backend) {
		ctx, db, f := t.Context(), b.new(t), b.fence("lease", 1)
		raise(t, f, db)
		wantError(t, f.Tx(ctx, db, nil, func(tx *sql.Tx) error { return tx.Commit() }), sql.ErrTxDone)
		if b.dialect == sqlfence.Postgres {
			return // its driver does not tell a transaction that was ended with SQL
		}
		ends := []string{"COMMIT", "ROLLBACK"}
		if b.dialect == sqlfence.MySQL {
			ends = append(ends, "CREATE TABLE t1 (a INT)", "ALTER TABLE journal ADD COLUMN a INT", "START TRANSACTION", "TRUNCATE journal")
		}
		for _, end := range ends {
			err := f.Tx(ctx, db, nil, func(tx *sql.Tx) error {
				_, err := tx.Exec(end)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "commit") {
				t.Errorf("after %s: %v", end, err)
			}
		}
		if err := f.Tx(ctx, db, nil, func(tx *sql.Tx) error { return write(ctx, tx, 1, 1) }); err != nil {
			t.Error(err)
		}
	})
}

// In SQLite and Postgres, changes of the schema are part of the transaction.
func TestSchemaChangeIsFenced(t *testing.T) {
	each(t, []backend{sqliteWAL, sqliteRollback, pgCommitted}, func(t *testing.T, b backend) {
		ctx, db, f := t.Context(), b.new(t), b.fence("lease", 1)
		raise(t, f, db)
		err := f.Tx(ctx, db, nil, func(tx *sql.Tx) error {
			if _, err := tx.Exec("CREATE TABLE t1 (a INT)"); err != nil {
				t.Error(err)
			}
			return errMine
		})
		wantError(t, err, errMine)
		mustExec(t, db, "CREATE TABLE t1 (a INT)") // it is not there
	})
}

func TestInvalidArguments(t *testing.T) {
	each(t, kinds, func(t *testing.T, b backend) {
		ctx, db := t.Context(), b.new(t)
		f := b.fence("lease", 1)
		nothing := func(*sql.Tx) error { return nil }
		bad := []sqlfence.Fence{
			b.fence("", 1), b.fence(strings.Repeat("x", 256), 1), b.fence("a\x00", 1), b.fence("\xff", 1),
			b.fence("lease", 0), b.fence("lease", math.MaxInt64+1), b.fence("lease", math.MaxUint64),
			{Lease: "lease", Epoch: 1}, {Lease: "lease", Epoch: 1, Dialect: 4}, {Lease: "lease", Epoch: 1, Dialect: -1},
		}
		for _, f := range bad {
			wantError(t, f.Raise(ctx, db), sqlfence.ErrInvalid)
			wantError(t, f.Tx(ctx, db, nil, never(t)), sqlfence.ErrInvalid)
		}
		wantError(t, f.Raise(ctx, nil), sqlfence.ErrInvalid)
		wantError(t, f.Tx(ctx, nil, nil, nothing), sqlfence.ErrInvalid)
		wantError(t, f.Tx(ctx, db, nil, nil), sqlfence.ErrInvalid)
		wantError(t, f.Tx(ctx, db, &sql.TxOptions{ReadOnly: true}, never(t)), sqlfence.ErrInvalid)
		wantError(t, f.Tx(ctx, db, nil, nothing), sqlfence.ErrNotRaised) // no table was made
	})
}

// Names are compared by their bytes, and are data and no SQL.
func TestNames(t *testing.T) {
	names := []string{"a", "A", "a ", " a", "ä", "a\u0308", "ß", "ss", "%", "_", "'", `\`, "a\n", "💾", strings.Repeat("x", 255), strings.Repeat("x", 254) + "y"}
	each(t, kinds, func(t *testing.T, b backend) {
		ctx, db := t.Context(), b.new(t)
		for i, name := range names {
			raise(t, b.fence(name, uint64(i+1)), db)
		}
		raise(t, b.fence("largest", math.MaxInt64), db)
		for i, name := range names {
			f := b.fence(name, uint64(i+1))
			if err := f.Tx(ctx, db, nil, func(*sql.Tx) error { return nil }); err != nil {
				t.Errorf("%q: %v", name, err)
			}
			for _, key := range names[:min(i, 4)] { // keys, too
				if err := f.Tx(ctx, db, nil, once(t, ctx, key, name+key)); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := b.fence(names[0], 1).Tx(ctx, db, nil, func(tx *sql.Tx) error {
			for _, key := range names {
				if err := once(t, ctx, key, key)(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		wantError(t, b.fence("largest", math.MaxInt64-1).Raise(ctx, db), sqlfence.ErrFenced)
	})
}

// A context that has ended, or ends while a lock is waited for, ends the call.
func TestContextEnds(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		db, f, next := b.new(t), b.fence("lease", 1), b.fence("lease", 2)
		raise(t, f, db)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		wantError(t, next.Raise(ended, db), context.Canceled)
		wantError(t, f.Tx(ended, db, b.opts(), never(t)), context.Canceled)
		err := f.Tx(t.Context(), db, b.opts(), func(*sql.Tx) error {
			limited, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			if err := next.Raise(limited, db); err == nil {
				t.Error("raised during a transaction")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		raise(t, next, db)
	})
}
