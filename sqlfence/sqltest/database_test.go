package sqltest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/ownerlease/owner/internal/mariatest"
	"github.com/ownerlease/owner/internal/pgtest"
	"github.com/ownerlease/owner/sqlfence"
)

// A backend is a kind of database, in the way that it is used.
type backend struct {
	name      string
	dialect   sqlfence.Dialect
	driver    string
	isolation sql.IsolationLevel
	fresh     func(testing.TB) string // the DSN of an empty database
}

var (
	sqliteWAL      = backend{"SQLite, WAL", sqlfence.SQLite, "sqlite", 0, sqliteFile("WAL")}
	sqliteRollback = backend{"SQLite, rollback journal", sqlfence.SQLite, "sqlite", 0, sqliteFile("DELETE")}
	pgCommitted    = backend{"Postgres, READ COMMITTED", sqlfence.Postgres, "pgx", sql.LevelReadCommitted, pgSchema}
	pgRepeatable   = backend{"Postgres, REPEATABLE READ", sqlfence.Postgres, "pgx", sql.LevelRepeatableRead, pgSchema}
	pgSerializable = backend{"Postgres, SERIALIZABLE", sqlfence.Postgres, "pgx", sql.LevelSerializable, pgSchema}
	mariaRepeat    = backend{"MariaDB, REPEATABLE READ", sqlfence.MySQL, "mysql", 0, mariaDatabase}
	mariaCommitted = backend{"MariaDB, READ COMMITTED", sqlfence.MySQL, "mysql", sql.LevelReadCommitted, mariaDatabase}

	backends = []backend{sqliteWAL, sqliteRollback, pgCommitted, pgRepeatable, pgSerializable, mariaRepeat, mariaCommitted}
	kinds    = []backend{sqliteWAL, pgCommitted, mariaRepeat} // where the isolation does not matter
)

func (b backend) opts() *sql.TxOptions { return &sql.TxOptions{Isolation: b.isolation} }

func (b backend) fence(lease string, epoch uint64) sqlfence.Fence {
	return sqlfence.Fence{Lease: lease, Epoch: epoch, Dialect: b.dialect}
}

// each runs a test with each of the databases.
func each(t *testing.T, all []backend, test func(t *testing.T, b backend)) {
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) { test(t, b) })
	}
}

// open opens a database for the time of the test.
func (b backend) open(tb testing.TB, dsn string) *sql.DB {
	tb.Helper()
	return open(tb, b.driver, dsn)
}

func open(tb testing.TB, driver, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db
}

// new opens an empty database that has a table journal.
func (b backend) new(tb testing.TB) *sql.DB {
	tb.Helper()
	db := b.open(tb, b.fresh(tb))
	mustExec(tb, db, journalTable)
	return db
}

const journalTable = `CREATE TABLE journal (epoch BIGINT NOT NULL, n BIGINT NOT NULL)`

func mustExec(tb testing.TB, db *sql.DB, query string, args ...any) {
	tb.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
}

// write is what owners do: it adds a row to the journal.
func write(ctx context.Context, tx *sql.Tx, epoch uint64, n int) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO journal (epoch, n) VALUES (%d, %d)", epoch, n))
	return err
}

func count(tb testing.TB, db *sql.DB, where string) (n int) {
	tb.Helper()
	if err := db.QueryRow("SELECT count(*) FROM " + where).Scan(&n); err != nil {
		tb.Fatalf("%s: %v", where, err)
	}
	return n
}

// awaitWaiting waits until so many transactions wait for a lock. SQLite does not tell.
func (b backend) awaitWaiting(tb testing.TB, db *sql.DB, n int) {
	tb.Helper()
	var waiting string
	switch b.dialect {
	case sqlfence.Postgres:
		waiting = "pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) HAVING count(*) >= %d"
	case sqlfence.MySQL:
		waiting = "information_schema.global_status WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS' AND variable_value >= %d HAVING count(*) > 0"
	default:
		return
	}
	query := fmt.Sprintf("SELECT 1 FROM "+waiting, n)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var one int
		err := db.QueryRow(query).Scan(&one)
		switch {
		case err == nil:
			return
		case !errors.Is(err, sql.ErrNoRows):
			tb.Fatal(err)
		case time.Now().After(deadline):
			tb.Errorf("there are not %d transactions that wait", n)
			return
		}
	}
}

// sqliteFile is a new file with this journal mode. It is not synced: it survives the end
// of processes.
func sqliteFile(journal string) func(testing.TB) string {
	return func(tb testing.TB) string {
		return "file:" + filepath.Join(tb.TempDir(), "test.db") + "?_pragma=busy_timeout(20000)&_pragma=synchronous(OFF)&_pragma=journal_mode(" + journal + ")"
	}
}

var names atomic.Int64

// pgSchema is a new schema of the server that all tests share.
func pgSchema(tb testing.TB) string {
	tb.Helper()
	s := shared(tb, pgServer)
	name := fmt.Sprintf("s%d", names.Add(1))
	db := open(tb, "pgx", s.DSN())
	mustExec(tb, db, "CREATE SCHEMA "+name)
	return s.DSN() + " search_path=" + name
}

// mariaDatabase is a new database of the server that all tests share.
func mariaDatabase(tb testing.TB) string {
	tb.Helper()
	s := shared(tb, mariaServer)
	name := fmt.Sprintf("d%d", names.Add(1))
	mustExec(tb, open(tb, "mysql", s.DSN("")), "CREATE DATABASE "+name)
	return s.DSN(name)
}

// The servers start with the first test that needs them.
var (
	pgServer    = sync.OnceValues(func() (*pgtest.Server, error) { return end(pgtest.New()) })
	mariaServer = sync.OnceValues(func() (*mariatest.Server, error) { return end(mariatest.New()) })
	atEnd       []func()
)

func end[S interface{ Close() }](s S, err error) (S, error) {
	if err == nil {
		atEnd = append(atEnd, s.Close)
	}
	return s, err
}

// shared is a server, without whose programs the test is skipped.
func shared[S any](tb testing.TB, start func() (S, error)) S {
	tb.Helper()
	s, err := start()
	switch {
	case errors.Is(err, pgtest.ErrMissing) || errors.Is(err, mariatest.ErrMissing):
		tb.Skip(err)
	case err != nil:
		tb.Fatal(err)
	}
	return s
}

// runWorker is what a process does that a test has started, where there are such.
var runWorker func(arg string) error

func TestMain(m *testing.M) {
	if arg, is := os.LookupEnv("SQLFENCE_WORKER"); is {
		if err := runWorker(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	for _, f := range atEnd {
		f()
	}
	os.Exit(code)
}
