package sqlfence

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// Raise makes this the lowest epoch whose transactions commit. After it has returned
// nil, no transaction of a lower epoch commits through [Fence.Tx]. Call it once after the
// election, before anything is read from the database: what was read before may be
// changed by the former owner. To call it again is harmless.
//
// It waits for the transactions of the former owner that are in progress, until ctx ends
// or the database gives up (busy_timeout in SQLite, lock_timeout in Postgres,
// innodb_lock_wait_timeout in MySQL). A former owner that hangs inside of a transaction
// makes it wait for as long; end that process (owner.KillHolder), or have the database
// end its transaction (idle_in_transaction_session_timeout in Postgres).
//
// Where a later owner has raised the fence, it returns [ErrFenced]. After any other error
// the fence may have been raised or not: call it again.
//
// It makes the tables owner_fence and owner_once where they are missing, in the
// connection's default schema or database, which has to be the same for all owners.
// [Dialect.Schema] has the statements for a database whose user may not make tables. The
// user needs SELECT, INSERT and UPDATE on both.
func (f Fence) Raise(ctx context.Context, db *sql.DB) error {
	s, err := f.check(db)
	if err != nil {
		return err
	}
	if err := f.makeTables(ctx, db, s); err != nil {
		return err
	}
	// Postgres fails an update of a newer row under an older snapshot, whose isolation
	// may be the default of the database. The other databases have no such error, and
	// MySQL can refuse this isolation: see binlog_format.
	var opts *sql.TxOptions
	if s.dialect == Postgres {
		opts = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return f.failed("raise: begin", err)
	}
	defer tx.Rollback() // after a commit it does nothing
	if s.durable != "" {
		if _, err := tx.ExecContext(ctx, s.durable); err != nil {
			return f.failed("raise: ask for a durable commit", err)
		}
	}
	if s.turn != "" {
		if _, err := tx.ExecContext(ctx, s.turn, f.Lease); err != nil {
			return f.failed("raise: wait for the former owner's transactions", err)
		}
	}
	if _, err := tx.ExecContext(ctx, s.raise, f.Lease, int64(f.Epoch)); err != nil {
		return f.failed("raise", err)
	}
	switch epoch, err := f.row(ctx, tx, s.read); {
	case err != nil:
		return err
	case epoch > f.Epoch:
		return f.fencedBy(epoch)
	case epoch < f.Epoch:
		return fmt.Errorf("%w: owner_fence has stored %d for epoch %d: was it made with other columns than Dialect.Schema says?", ErrSchema, epoch, f.Epoch)
	}
	if err := tx.Commit(); err != nil {
		return f.failed("raise: commit", err)
	}
	return nil
}

// makeTables makes the tables that are missing, and refuses those that are not this
// package's.
func (f Fence) makeTables(ctx context.Context, db *sql.DB, s *statements) error {
	found, err := s.tables(ctx, db)
	if err != nil {
		return f.failed(fmt.Sprintf("look for the tables (is this a database of %v?)", s.dialect), err)
	}
	if found {
		return nil
	}
	made := s.makeTables(ctx, db)
	if made == nil {
		found, err = s.tables(ctx, db)
	} else if found, err = s.tables(ctx, db); err == nil && !found {
		err = f.failed("make the tables; a user who may can run: "+strings.Join(s.schema, "; "), made)
	} // else another process has made them meanwhile, which Postgres refuses
	if err == nil && !found {
		err = fmt.Errorf("%w: the tables were made, and are not seen in the connection's schema", ErrSchema)
	}
	return err
}

// makeTables makes both tables or none. In MySQL each statement is a transaction, and a
// second try makes the rest.
func (s *statements) makeTables(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	for _, statement := range s.schema {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// tables reports whether both tables are there; one that this version cannot use is an
// error.
func (s *statements) tables(ctx context.Context, q querier) (bool, error) {
	all := true
	for name, want := range tables {
		columns, kind, err := s.table(ctx, q, name)
		switch {
		case err != nil:
			return false, err
		case len(columns) == 0:
			all = false
		case !slices.Equal(columns, want):
			return false, fmt.Errorf("%w: %s has the columns %s, and this version of the package knows %s; rename the table, or use the version that made it", ErrSchema, name, strings.Join(columns, ", "), strings.Join(want, ", "))
		case kind != s.kind:
			return false, fmt.Errorf("%w: %s is a %s, which does not lock rows for as long as a transaction lasts, or loses them; want %s, as Dialect.Schema makes it", ErrSchema, name, kind, s.kind)
		}
	}
	return all, nil
}

// table returns the names of a table's columns, sorted, and its kind.
func (s *statements) table(ctx context.Context, q querier, name string) (columns []string, kind string, err error) {
	rows, err := q.QueryContext(ctx, fmt.Sprintf(s.columns, name))
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	for rows.Next() {
		var column string
		if err := rows.Scan(&column, &kind); err != nil {
			return nil, "", err
		}
		columns = append(columns, strings.ToLower(column))
	}
	slices.Sort(columns)
	return columns, kind, rows.Err()
}
