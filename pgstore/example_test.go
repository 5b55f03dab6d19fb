package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/pgtest"
	"github.com/ownerlease/owner/pgstore"
)

// From one machine to several: one line differs.
func Example() {
	pool, end := playground() // a Postgres of this example
	defer end()

	db, err := pgstore.Open(pool.Config())
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := pgstore.Setup(context.Background(), db, 0); err != nil { // once for each database
		log.Fatal(err)
	}

	cfg := owner.Config{
		TTL:      10 * time.Second,
		Endpoint: "tcp:gpu-1:4000",
		Store:    pgstore.New(db, "gpu"), // on one machine: LeasePath: "/run/lock/gpu"
	}
	err = owner.Run(context.Background(), cfg, func(_ context.Context, o *owner.Owner) error {
		follower, err := owner.Join(context.Background(), cfg)
		if err != nil {
			return err
		}
		fmt.Println("owns:", o.IsOwner(), "- the other goes to", follower.Endpoint())
		return follower.Release()
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: owns: true - the other goes to tcp:gpu-1:4000
}

// What an owner writes into the same database, a past owner cannot write.
func ExampleFence() {
	pool, end := playground()
	defer end()
	ctx := context.Background()
	if _, err := pool.Exec(ctx, "CREATE TABLE entries (text text)"); err != nil {
		log.Fatal(err)
	}

	db, err := pgstore.Open(pool.Config())
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := pgstore.Setup(ctx, db, 0); err != nil {
		log.Fatal(err)
	}
	o, err := owner.Join(ctx, owner.Config{TTL: 10 * time.Second, Store: pgstore.New(db, "entries")})
	if err != nil {
		log.Fatal(err)
	}
	guard := pgstore.Fence(o)
	write := func(text string) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if err := guard.Check(ctx, tx); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO entries VALUES ($1)", text)
			return err
		})
	}

	fmt.Println("as the owner:", write("first"))
	if err := o.Release(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("later, fenced:", errors.Is(write("second"), pgstore.ErrFenced))
	// Output:
	// as the owner: <nil>
	// later, fenced: true
}

// playground starts a Postgres.
func playground() (pool *pgxpool.Pool, end func()) {
	server, err := pgtest.New()
	if err != nil {
		log.Fatal(err)
	}
	pool, err = pgxpool.New(context.Background(), server.DSN())
	if err != nil {
		server.Close()
		log.Fatal(err)
	}
	return pool, func() {
		pool.Close()
		server.Close()
	}
}
