package pgstore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/ownerlease/owner"
)

// A guarded transaction that has begun before a takeover ends before it; one that begins
// after it is refused.
func TestFence(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	key := uuid.NewString()
	_, err := db.pool.Exec(t.Context(), `CREATE TABLE IF NOT EXISTS fenced (n int)`)
	must(t, err)
	o, err := owner.Join(t.Context(), owner.Config{Store: New(db, key), TTL: 20 * time.Second})
	must(t, err)
	guard := Fence(o)
	transactions := open(t, shared(t).DSN()).pool
	begin := func() pgx.Tx {
		tx, err := transactions.Begin(t.Context())
		must(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		return tx
	}

	tx := begin()
	must(t, guard.Check(t.Context(), tx))
	// Renewals and other guarded transactions do not wait for it.
	must(t, guard.Check(t.Context(), begin()))
	_, err = db.keeper.renew(t.Context(), &renewal{key: key, instance: o.InstanceID(), timeout: readTimeout})
	must(t, err)
	var idle string
	must(t, tx.QueryRow(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&idle))
	if idle != "20s" {
		t.Errorf("a hung transaction is ended after %s", idle)
	}
	must(t, o.Release())
	<-o.Done()

	next := claim(time.Minute)
	acq, err := New(db, key).Acquire(t.Context(), next)
	if err != nil || acq.Lease != nil || acq.Holder.InstanceID != guard.instance {
		t.Errorf("while a guarded transaction is open: %+v, %v", acq, err)
	}
	must(t, tx.Rollback(t.Context()))
	if err := guard.Check(t.Context(), begin()); !errors.Is(err, ErrFenced) {
		t.Errorf("after the release: %v", err)
	}
}

// Check in the statement that writes: it writes while the owner owns, and nothing after that.
func TestFenceInOneStatement(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	o, err := owner.Join(t.Context(), owner.Config{Store: New(db, uuid.NewString()), TTL: 20 * time.Second})
	must(t, err)
	_, err = db.pool.Exec(t.Context(), `CREATE TABLE IF NOT EXISTS guarded (n int)`)
	must(t, err)
	sql, args := Fence(o).SQL()
	write := func() int64 {
		tag, err := db.pool.Exec(t.Context(), "WITH guard AS ("+sql+") INSERT INTO guarded SELECT $4::int FROM guard", append(args, 1)...)
		must(t, err)
		return tag.RowsAffected()
	}
	if n := write(); n != 1 {
		t.Errorf("the owner has written %d rows", n)
	}
	must(t, o.Release())
	<-o.Done()
	if n := write(); n != 0 {
		t.Errorf("a past owner has written %d rows", n)
	}
}

// Check sets the timeout of an idle transaction to the TTL, unless it is lower already.
func TestFenceKeepsALowerTimeout(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	o, err := owner.Join(t.Context(), owner.Config{Store: New(db, uuid.NewString()), TTL: 20 * time.Second})
	must(t, err)
	check, args := Fence(o).SQL()
	for before, want := range map[string]string{"0": "20s", "1": "1ms", "1500": "1500ms", "5s": "5s", "20s": "20s", "20001": "20s", "1min": "20s", "1h": "20s", "24d": "20s"} {
		// In one message: a transaction that is idle between its statements could be ended.
		var got string
		var b pgx.Batch
		b.Queue("SELECT set_config('idle_in_transaction_session_timeout', $1, true)", before)
		b.Queue(check, args...)
		b.Queue("SHOW idle_in_transaction_session_timeout").QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
		must(t, db.pool.SendBatch(t.Context(), &b).Close())
		if got != want {
			t.Errorf("%s has become %s, want %s", before, got, want)
		}
	}
	must(t, o.Release())
}

// A transaction whose client hangs does not keep the next owner waiting for ever.
func TestFenceOfHungOwner(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	key := uuid.NewString()
	o, err := owner.Join(t.Context(), owner.Config{Store: New(db, key), TTL: time.Second})
	must(t, err)
	tx, err := open(t, shared(t).DSN()).pool.Begin(t.Context())
	must(t, err)
	defer tx.Rollback(context.Background())
	must(t, Fence(o).Check(t.Context(), tx))
	must(t, o.Release())
	<-o.Done()
	next, err := owner.Join(t.Context(), owner.Config{Store: New(db, key), TTL: 10 * time.Second, Standby: true})
	must(t, err)
	select {
	case <-next.Elected():
	case <-time.After(20 * time.Second):
		t.Error("no owner follows")
	}
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("the transaction has committed under the next owner")
	}
	must(t, next.Release())
	<-next.Done()
}

// An owner that has expired, and does not stop, cannot keep its successor out by one guarded
// transaction after the other.
func TestFenceOfAnOwnerThatGoesOn(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	key := uuid.NewString()
	mine := open(t, shared(t).DSN())
	o, err := owner.Join(t.Context(), owner.Config{Store: New(mine, key, Unwitnessed()), TTL: time.Second})
	must(t, err)
	guard := Fence(o)
	next, err := owner.Join(t.Context(), owner.Config{Store: New(db, key), TTL: time.Minute, Standby: true})
	must(t, err)
	mine.keeper.close()
	mine.end() // no renewals any more
	<-o.Lost()
	pool := open(t, shared(t).DSN()+" pool_max_conns=10").pool
	ctx, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	transaction := func() error {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.Background()) }()
		if err := guard.Check(ctx, tx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "SELECT pg_sleep(0.6)")
		return errors.Join(err, tx.Commit(ctx))
	}
	for i := range 6 { // at any moment, some are under way
		workers.Go(func() {
			sleep(ctx, time.Duration(i)*100*time.Millisecond)
			for transaction() == nil {
			}
		})
	}
	select {
	case <-next.Elected():
	case <-time.After(20 * time.Second):
		t.Error("no successor")
	}
	stop()
	workers.Wait()
	must(t, next.Release())
	<-next.Done()
	_ = o.Release()
}
