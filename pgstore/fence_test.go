package pgstore

import (
	"context"
	"errors"
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
