package pgstore

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/pgtest"
)

// BenchmarkFence compares plain and guarded transactions, each with one insert, on a server
// that syncs its disk.
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
	in := func(do func(pgx.Tx) error) func() {
		return func() { must(b, pgx.BeginFunc(ctx, conn, do)) }
	}
	inTurns(b, []way{
		{"plain", in(insert)},
		{"an-empty-statement-more", in(func(tx pgx.Tx) error { // the floor of a check by a statement of its own
			if _, err := tx.Exec(ctx, "SELECT $1::int", 1); err != nil {
				return err
			}
			return insert(tx)
		})},
		{"checked", in(func(tx pgx.Tx) error {
			if err := guard.Check(ctx, tx); err != nil {
				return err
			}
			return insert(tx)
		})},
		{"in-one-statement", in(func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "WITH guard AS ("+check+") INSERT INTO entries SELECT $4::int FROM guard", append(args, 1)...)
			return err
		})},
	})
}
