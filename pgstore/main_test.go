package pgstore

import (
	"errors"
	"flag"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/ownerlease/owner/internal/pgtest"
	"go.uber.org/goleak"
)

// server is what the tests share that do it no harm.
var sharedServer = sync.OnceValues(func() (*pgtest.Server, error) { return pgtest.New() })

func TestMain(m *testing.M) {
	if key := os.Getenv("PGSTORE_OWN"); key != "" {
		ownUntilKilled(os.Getenv("PGSTORE_DSN"), key)
	}
	if _, err := sharedServer(); errors.Is(err, pgtest.ErrMissing) {
		_ = flag.Set("test.skip", "^Example") // an example cannot skip itself
	}
	goleak.VerifyTestMain(endingServer{m})
}

// endingServer ends the server that the tests have shared when they have run.
type endingServer struct{ *testing.M }

func (m endingServer) Run() int {
	defer func() {
		if s, err := sharedServer(); err == nil {
			s.Close()
		}
	}()
	return m.M.Run()
}

func shared(t testing.TB) *pgtest.Server {
	t.Helper()
	s, err := sharedServer()
	switch {
	case errors.Is(err, pgtest.ErrMissing):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return s
}

// newDB opens a DB that ends with the test, and sets it up.
func newDB(t testing.TB, dsn string) *DB {
	t.Helper()
	db := open(t, dsn)
	must(t, Setup(t.Context(), db, 0))
	return db
}

func open(t testing.TB, dsn string) *DB {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	must(t, err)
	db, err := Open(cfg)
	must(t, err)
	t.Cleanup(db.Close)
	return db
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
