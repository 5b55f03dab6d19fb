package sqltest

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/mariatest"
	"github.com/ownerlease/owner/internal/pgtest"
)

// The databases sync their disks here, as they do in use.
var synced = []backend{
	{sqliteWAL.name, sqliteWAL.dialect, "sqlite", 0, func(tb testing.TB) string {
		return strings.Replace(sqliteWAL.fresh(tb), "synchronous(OFF)", "synchronous(NORMAL)", 1)
	}},
	{sqliteWAL.name + ", synchronous=FULL", sqliteWAL.dialect, "sqlite", 0, func(tb testing.TB) string {
		return strings.Replace(sqliteWAL.fresh(tb), "synchronous(OFF)", "synchronous(FULL)", 1)
	}},
	{sqliteRollback.name, sqliteRollback.dialect, "sqlite", 0, func(tb testing.TB) string {
		return strings.Replace(sqliteRollback.fresh(tb), "synchronous(OFF)", "synchronous(FULL)", 1)
	}},
	{pgCommitted.name, pgCommitted.dialect, "pgx", 0, func(tb testing.TB) string {
		return pgtest.Start(tb, "fsync = on").DSN()
	}},
	{mariaRepeat.name, mariaRepeat.dialect, "mysql", 0, func(tb testing.TB) string {
		s := mariatest.Start(tb, "--innodb-flush-log-at-trx-commit=1", "--innodb-flush-method=fsync")
		mustExec(tb, open(tb, "mysql", s.DSN("")), "CREATE DATABASE d")
		return s.DSN("d")
	}},
}

// BenchmarkTx has fenced and plain transactions in turns, each with one insert, and
// reports how they compare. The medians are what is compared: a sync of the disk can take
// many times as long as another.
func BenchmarkTx(b *testing.B) {
	for _, kind := range synced {
		b.Run(kind.name, func(b *testing.B) {
			ctx, db, f := context.Background(), kind.new(b), kind.fence("lease", 1)
			raise(b, f, db)
			insert := func(tx *sql.Tx) error { return write(ctx, tx, 1, 1) }
			plain := func() error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				defer tx.Rollback()
				if err := insert(tx); err != nil {
					return err
				}
				return tx.Commit()
			}
			fenced := func() error { return f.Tx(ctx, db, nil, insert) }
			var times [2][]time.Duration
			for b.Loop() {
				for i, run := range []func() error{plain, fenced} {
					start := time.Now()
					if err := run(); err != nil {
						b.Fatal(err)
					}
					times[i] = append(times[i], time.Since(start))
				}
			}
			var medians [2]float64
			for i := range times {
				slices.Sort(times[i])
				medians[i] = float64(times[i][len(times[i])/2])
			}
			b.ReportMetric(medians[0], "plain-ns")
			b.ReportMetric(medians[1], "fenced-ns")
			b.ReportMetric(medians[1]/medians[0], "ratio")
		})
	}
}
