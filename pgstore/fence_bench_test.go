package pgstore

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/pgtest"
)

// BenchmarkFence has plain and guarded transactions in turns, each with one insert, on a
// server that syncs its disk, and reports how they compare. The medians are what is compared:
// a sync of the disk can take many times as long as another.
func BenchmarkFence(b *testing.B) {
	ctx := b.Context()
	dsn := pgtest.Start(b, "fsync = on").DSN()
	o, err := owner.Join(ctx, owner.Config{Store: New(newDB(b, dsn), uuid.NewString()), TTL: 20 * time.Second})
	must(b, err)
	conn, err := pgx.Connect(ctx, dsn)
	must(b, err)
	_, err = conn.Exec(ctx, "CREATE TABLE entries (n int)")
	must(b, err)
	guard := Fence(o)
	check, args := guard.SQL()
	insert := func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO entries VALUES ($1)", 1)
		return err
	}
	ways := []struct {
		name string
		do   func(pgx.Tx) error
	}{
		{"plain", insert},
		{"an-empty-statement-more", func(tx pgx.Tx) error { // the floor of a check by a statement of its own
			if _, err := tx.Exec(ctx, "SELECT $1::int", 1); err != nil {
				return err
			}
			return insert(tx)
		}},
		{"checked", func(tx pgx.Tx) error {
			if err := guard.Check(ctx, tx); err != nil {
				return err
			}
			return insert(tx)
		}},
		{"in-one-statement", func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "WITH guard AS ("+check+") INSERT INTO entries SELECT $4::int FROM guard", append(args, 1)...)
			return err
		}},
	}
	times := make([][]time.Duration, len(ways))
	for b.Loop() {
		for i, way := range ways {
			start := time.Now()
			must(b, pgx.BeginFunc(ctx, conn, way.do))
			times[i] = append(times[i], time.Since(start))
		}
	}
	var medians []float64
	for i, way := range ways {
		slices.Sort(times[i])
		medians = append(medians, float64(times[i][len(times[i])/2]))
		b.ReportMetric(medians[i], way.name+"-ns")
		b.ReportMetric(medians[i]/medians[0], way.name+"-ratio")
	}
}
