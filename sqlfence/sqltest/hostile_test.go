package sqltest

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/mariatest"
	"github.com/ownerlease/owner/internal/pgtest"
	"github.com/ownerlease/owner/sqlfence"
)

func wantText(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			tb.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

// tablesOf counts the tables of this package, which a Raise that fails has not made.
func tablesOf(tb testing.TB, b backend, db *sql.DB) int {
	tb.Helper()
	switch b.dialect {
	case sqlfence.SQLite:
		return count(tb, db, "sqlite_master WHERE type = 'table' AND name LIKE 'owner_%'")
	case sqlfence.Postgres:
		return count(tb, db, "information_schema.tables WHERE table_schema = current_schema() AND table_name LIKE 'owner_%'")
	}
	return count(tb, db, "information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE 'owner_%'")
}

// Tables of other versions and other programs are refused, and stay as they are.
func TestTablesOfOthers(t *testing.T) {
	others := map[string]string{
		"more columns": "CREATE TABLE owner_fence (lease VARCHAR(100) PRIMARY KEY, epoch BIGINT, version INT, since INT)",
		"fewer":        "CREATE TABLE owner_fence (lease VARCHAR(100) PRIMARY KEY, epoch BIGINT)",
		"others":       "CREATE TABLE owner_fence (id INT PRIMARY KEY, name VARCHAR(100))",
		"keys":         "CREATE TABLE owner_once (id INT PRIMARY KEY)",
		"a view":       "CREATE VIEW owner_fence AS SELECT 'lease' AS lease, 1 AS epoch, 1 AS version",
	}
	each(t, kinds, func(t *testing.T, b backend) {
		for name, other := range others {
			t.Run(name, func(t *testing.T) {
				db := b.new(t)
				mustExec(t, db, other)
				wantError(t, b.fence("lease", 1).Raise(t.Context(), db), sqlfence.ErrSchema)
				if n := tablesOf(t, b, db); n != 1 && name != "a view" || n > 1 {
					t.Errorf("%d tables", n)
				}
				if name != "a view" { // which has a row, as if it were raised
					wantSomeError(t, b.fence("lease", 1).Tx(t.Context(), db, nil, never(t)))
				}
			})
		}
	})
}

// Tables that look right, and keep something else than what was written.
func TestTablesThatLose(t *testing.T) {
	each(t, kinds, func(t *testing.T, b backend) {
		bad := map[string]string{
			"no key": "CREATE TABLE owner_fence (lease VARCHAR(255), epoch BIGINT, version INT)",
		}
		switch b.dialect {
		case sqlfence.Postgres:
			bad["unlogged"] = "CREATE UNLOGGED TABLE owner_fence (lease text PRIMARY KEY, epoch bigint, version int)"
			bad["small"] = "CREATE TABLE owner_fence (lease text PRIMARY KEY, epoch int, version int)"
		case sqlfence.MySQL:
			bad["no transactions"] = "CREATE TABLE owner_fence (lease VARBINARY(255) PRIMARY KEY, epoch BIGINT, version INT) ENGINE=MyISAM"
			bad["small"] = "CREATE TABLE owner_fence (lease VARBINARY(255) PRIMARY KEY, epoch INT, version INT) ENGINE=InnoDB"
			bad["cut"] = "CREATE TABLE owner_fence (lease VARBINARY(3) PRIMARY KEY, epoch BIGINT, version INT) ENGINE=InnoDB"
			bad["no case"] = "CREATE TABLE owner_fence (lease VARCHAR(255) PRIMARY KEY, epoch BIGINT, version INT) ENGINE=InnoDB"
		}
		for name, table := range bad {
			t.Run(name, func(t *testing.T) {
				db := b.new(t)
				mustExec(t, db, table)
				if b.dialect == sqlfence.MySQL {
					db.SetMaxOpenConns(1)
					mustExec(t, db, "SET sql_mode = ''") // which cuts what does not fit
				}
				first := b.fence("LEASE", 1).Raise(t.Context(), db)
				second := b.fence("lease", 1<<40).Raise(t.Context(), db)
				if second == nil {
					t.Errorf("raised (and before: %v)", first)
				}
				wantSomeError(t, b.fence("lease", 1<<40).Tx(t.Context(), db, nil, never(t)))
			})
		}
	})
}

func wantSomeError(tb testing.TB, err error) {
	tb.Helper()
	if err == nil {
		tb.Error("no error")
	}
}

// A row that a later version has written is not touched, and fences.
func TestRowOfAnotherVersion(t *testing.T) {
	each(t, kinds, func(t *testing.T, b backend) {
		db := b.new(t)
		raise(t, b.fence("another", 1), db)
		mustExec(t, db, "INSERT INTO owner_fence (lease, epoch, version) VALUES ('lease', 5, 2)")
		for _, epoch := range []uint64{4, 5, 6} {
			f := b.fence("lease", epoch)
			wantError(t, f.Raise(t.Context(), db), sqlfence.ErrSchema)
			wantError(t, f.Tx(t.Context(), db, nil, never(t)), sqlfence.ErrSchema)
		}
		if n := count(t, db, "owner_fence WHERE lease = 'lease' AND epoch = 5 AND version = 2"); n != 1 {
			t.Error("the row has changed")
		}
	})
}

// The wrong dialect is an error, and makes no table.
func TestWrongDialect(t *testing.T) {
	each(t, kinds, func(t *testing.T, b backend) {
		db := b.new(t)
		for _, d := range []sqlfence.Dialect{sqlfence.SQLite, sqlfence.Postgres, sqlfence.MySQL} {
			if d == b.dialect {
				continue
			}
			f := sqlfence.Fence{Lease: "lease", Epoch: 1, Dialect: d}
			wantText(t, f.Raise(t.Context(), db), "is this a database of "+d.String())
			wantSomeError(t, f.Tx(t.Context(), db, nil, never(t)))
		}
		if n := tablesOf(t, b, db); n != 0 {
			t.Errorf("%d tables", n)
		}
	})
}

// A user who may not make tables gets the statements for one who may; then it works.
func TestUserWithoutPermission(t *testing.T) {
	t.Run("Postgres", func(t *testing.T) {
		b, dsn := pgCommitted, pgSchema(t)
		admin := b.open(t, dsn)
		mustExec(t, admin, journalTable)
		mustExec(t, admin, "CREATE ROLE clerk LOGIN")
		var schema string
		if err := admin.QueryRow("SELECT current_schema()").Scan(&schema); err != nil {
			t.Fatal(err)
		}
		mustExec(t, admin, "GRANT USAGE ON SCHEMA "+schema+" TO clerk")
		mustExec(t, admin, "GRANT ALL ON journal TO clerk")
		clerk := b.open(t, strings.Replace(dsn, "user=postgres", "user=clerk", 1))
		withoutPermission(t, b, admin, clerk, "GRANT SELECT, INSERT, UPDATE ON owner_fence, owner_once TO clerk")
	})
	t.Run("MariaDB", func(t *testing.T) {
		s, b := shared(t, mariaServer), mariaRepeat
		dsn := mariaDatabase(t)
		admin := b.open(t, dsn)
		mustExec(t, admin, journalTable)
		mustExec(t, admin, "CREATE USER clerk@localhost")
		mustExec(t, admin, "GRANT ALL ON journal TO clerk@localhost")
		clerk := b.open(t, s.UserDSN("clerk", filepath.Base(dsn)))
		withoutPermission(t, b, admin, clerk, "GRANT SELECT, INSERT, UPDATE ON owner_fence TO clerk@localhost", "GRANT SELECT, INSERT, UPDATE ON owner_once TO clerk@localhost")
	})
}

func withoutPermission(t *testing.T, b backend, admin, clerk *sql.DB, grants ...string) {
	ctx, f := t.Context(), b.fence("lease", 1)
	err := f.Raise(ctx, clerk)
	wantText(t, err, b.dialect.Schema()...)
	if n := tablesOf(t, b, admin); n != 0 {
		t.Errorf("%d tables", n)
	}
	for _, statement := range append(b.dialect.Schema(), grants...) {
		mustExec(t, admin, statement)
	}
	raise(t, f, clerk)
	err = f.Tx(ctx, clerk, nil, func(tx *sql.Tx) error {
		if err := once(t, ctx, "key", "result")(tx); err != nil {
			return err
		}
		return write(ctx, tx, 1, 1)
	})
	if err != nil {
		t.Error(err)
	}
}

// A read-only database, and a replica: the database's own error, and nothing is written.
func TestReadOnlyDatabase(t *testing.T) {
	refused := func(t *testing.T, b backend, db *sql.DB) {
		t.Helper()
		err := b.fence("lease", 2).Raise(t.Context(), db)
		wantText(t, err, "sqlfence: ", "read")
		err = b.fence("lease", 1).Tx(t.Context(), db, nil, func(tx *sql.Tx) error { return write(t.Context(), tx, 1, 1) })
		wantText(t, err, "read")
	}
	t.Run("SQLite", func(t *testing.T) {
		b, dsn := sqliteRollback, sqliteRollback.fresh(t)
		db := b.open(t, dsn)
		readOnly := b.open(t, dsn+"&mode=ro")
		mustExec(t, db, journalTable)
		wantText(t, b.fence("lease", 1).Raise(t.Context(), readOnly), "readonly", "make the tables")
		raise(t, b.fence("lease", 1), db)
		refused(t, b, readOnly)
		if n := count(t, db, "journal"); n != 0 {
			t.Errorf("%d rows", n)
		}
	})
	t.Run("Postgres", func(t *testing.T) {
		b, s := pgCommitted, pgtest.Start(t)
		db := b.open(t, s.DSN())
		mustExec(t, db, journalTable)
		raise(t, b.fence("lease", 1), db)
		replica := s.Replica(t)
		refused(t, b, b.open(t, replica.DSN()))
	})
	t.Run("MariaDB", func(t *testing.T) {
		b, s := mariaRepeat, mariatest.Start(t)
		root := b.open(t, s.DSN(""))
		mustExec(t, root, "CREATE DATABASE d")
		db := b.open(t, s.DSN("d"))
		mustExec(t, db, journalTable)
		raise(t, b.fence("lease", 1), db)
		mustExec(t, root, "CREATE USER clerk@localhost")
		mustExec(t, root, "GRANT ALL ON d.* TO clerk@localhost")
		mustExec(t, root, "SET GLOBAL read_only = 1")
		refused(t, b, b.open(t, s.UserDSN("clerk", "d")))
	})
}

// A file that another connection holds: the database's own error, after its own time.
func TestLockedDatabase(t *testing.T) {
	each(t, []backend{sqliteWAL, sqliteRollback}, func(t *testing.T, b backend) {
		ctx, dsn := t.Context(), b.fresh(t)
		db := b.open(t, dsn)
		mustExec(t, db, journalTable)
		impatient := b.open(t, strings.Replace(dsn, "busy_timeout(20000)", "busy_timeout(20)", 1))
		holder, err := db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer holder.Close()
		locked := func(f func() error) {
			t.Helper()
			if _, err := holder.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
				t.Fatal(err)
			}
			wantText(t, f(), "sqlfence: ", "locked")
			if _, err := holder.ExecContext(ctx, "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
		}
		first, second := b.fence("lease", 1), b.fence("lease", 2)
		locked(func() error { return first.Raise(ctx, impatient) }) // there are no tables
		raise(t, first, impatient)
		locked(func() error { return second.Raise(ctx, impatient) })
		locked(func() error { return first.Tx(ctx, impatient, nil, never(t)) })
		// A reader in rollback mode keeps a transaction from its commit.
		if b.name == sqliteRollback.name {
			if _, err := holder.ExecContext(ctx, "BEGIN"); err != nil {
				t.Fatal(err)
			}
			var n int
			if err := holder.QueryRowContext(ctx, "SELECT count(*) FROM journal").Scan(&n); err != nil {
				t.Fatal(err)
			}
			err := first.Tx(ctx, impatient, nil, func(tx *sql.Tx) error { return write(ctx, tx, 1, 1) })
			wantText(t, err, "sqlfence: commit", "locked")
			if _, err := holder.ExecContext(ctx, "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
		}
		if n := count(t, db, "journal"); n != 0 {
			t.Errorf("%d rows", n)
		}
		if err := first.Tx(ctx, impatient, nil, func(tx *sql.Tx) error { return write(ctx, tx, 1, 1) }); err != nil {
			t.Error(err)
		}
	})
}

// A server that is away: an error within the context's time.
func TestServerIsAway(t *testing.T) {
	b, s := pgCommitted, pgtest.Start(t)
	db, f := b.open(t, s.DSN()), b.fence("lease", 1)
	mustExec(t, db, journalTable)
	raise(t, f, db)
	err := f.Tx(t.Context(), db, nil, func(tx *sql.Tx) error {
		if err := write(t.Context(), tx, 1, 1); err != nil {
			return err
		}
		s.Kill()
		return nil
	})
	wantText(t, err, "sqlfence: commit")
	start := time.Now()
	wantText(t, f.Tx(t.Context(), db, nil, never(t)), "sqlfence: begin")
	wantText(t, b.fence("lease", 2).Raise(t.Context(), db), "sqlfence: ")
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	s.Restart(t)
	if n := count(t, db, "journal"); n != 0 {
		t.Errorf("%d rows", n)
	}
	if err := f.Tx(t.Context(), db, nil, once(t, t.Context(), "key", fmt.Sprint(1))); err != nil {
		t.Error(err)
	}
}

// A Raise is durable where the server's transactions are not: after a crash of the
// server, the former owner is fenced still.
func TestRaiseSurvivesACrash(t *testing.T) {
	b, s := pgCommitted, pgtest.Start(t, "synchronous_commit = off", "wal_writer_delay = 10s")
	raise(t, b.fence("lease", 1), b.open(t, s.DSN()))
	for epoch := range uint64(5) {
		raise(t, b.fence("lease", epoch+2), b.open(t, s.DSN()))
		s.Kill()
		s.Restart(t)
		wantError(t, b.fence("lease", epoch+1).Tx(t.Context(), b.open(t, s.DSN()), nil, never(t)), sqlfence.ErrFenced)
	}
}
