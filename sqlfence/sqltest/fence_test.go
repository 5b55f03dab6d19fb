package sqltest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ownerlease/owner/sqlfence"
)

// soon is how long a test watches that something does not happen. It is no time to wait
// for what does.
const soon = 50 * time.Millisecond

func raise(tb testing.TB, f sqlfence.Fence, db *sql.DB) {
	tb.Helper()
	if err := f.Raise(context.Background(), db); err != nil {
		tb.Fatal(err)
	}
}

func wantError(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("error is %v, and not %v", err, want)
	}
}

// never is the function of a transaction that must not begin.
func never(tb testing.TB) func(*sql.Tx) error {
	return func(*sql.Tx) error {
		tb.Error("the function was called")
		return nil
	}
}

func TestLaterOwnerFences(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		ctx, db := t.Context(), b.new(t)
		first, second := b.fence("lease", 3), b.fence("lease", 7)
		wantError(t, first.Tx(ctx, db, b.opts(), never(t)), sqlfence.ErrNotRaised) // there are no tables
		raise(t, first, db)
		raise(t, first, db) // again
		put := func(f sqlfence.Fence, n int) error {
			return f.Tx(ctx, db, b.opts(), func(tx *sql.Tx) error { return write(ctx, tx, f.Epoch, n) })
		}
		if err := put(first, 1); err != nil {
			t.Fatal(err)
		}
		wantError(t, second.Tx(ctx, db, b.opts(), never(t)), sqlfence.ErrNotRaised)
		wantError(t, b.fence("another", 9).Tx(ctx, db, b.opts(), never(t)), sqlfence.ErrNotRaised)
		raise(t, second, db)
		wantError(t, first.Tx(ctx, db, b.opts(), never(t)), sqlfence.ErrFenced)
		wantError(t, first.Raise(ctx, db), sqlfence.ErrFenced)
		if err := put(second, 2); err != nil {
			t.Fatal(err)
		}
		raise(t, b.fence("another", 1), db) // another lease does not matter
		if err := put(second, 3); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(count(t, db, "journal WHERE epoch = 3"), count(t, db, "journal WHERE epoch = 7")); got != "1 2" {
			t.Errorf("rows of the two owners: %s", got)
		}
	})
}

// A Raise waits for a transaction that has begun, whose owner may be stopped in the middle
// of it; and one that begins while the Raise waits is fenced.
func TestRaiseWaitsForTransactions(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		ctx, db := t.Context(), b.new(t)
		stale, next := b.fence("lease", 1), b.fence("lease", 2)
		raise(t, stale, db)
		inside, resume := make(chan bool), make(chan bool)
		var committed, fenced, raised = make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() {
			committed <- stale.Tx(ctx, db, b.opts(), func(tx *sql.Tx) error {
				close(inside)
				<-resume
				return write(ctx, tx, 1, 1)
			})
		}()
		<-inside
		go func() { raised <- next.Raise(ctx, db) }()
		b.awaitWaiting(t, db, 1)
		select {
		case err := <-raised:
			t.Errorf("raised while a transaction of the former owner runs: %v", err)
			raised <- err
		case <-time.After(soon):
		}
		if b.dialect != sqlfence.SQLite { // whose waiters have no order
			go func() { fenced <- stale.Tx(ctx, db, b.opts(), never(t)) }()
			b.awaitWaiting(t, db, 2)
			select {
			case err := <-fenced:
				t.Errorf("a transaction has overtaken the Raise: %v", err)
				fenced <- err
			case <-time.After(soon):
			}
		} else {
			fenced <- sqlfence.ErrFenced
		}
		close(resume)
		if err := <-committed; err != nil {
			t.Errorf("the transaction that had begun: %v", err)
		}
		if err := <-raised; err != nil {
			t.Error(err)
		}
		wantError(t, <-fenced, sqlfence.ErrFenced)
		wantError(t, stale.Tx(ctx, db, b.opts(), never(t)), sqlfence.ErrFenced)
		if n := count(t, db, "journal"); n != 1 {
			t.Errorf("%d rows", n)
		}
	})
}

// A snapshot that is older than the Raise lets no former owner in. In Postgres the
// transaction waits for the Raise with a snapshot of before its commit.
func TestOldSnapshot(t *testing.T) {
	each(t, []backend{pgCommitted, pgRepeatable, pgSerializable, mariaRepeat, mariaCommitted}, func(t *testing.T, b backend) {
		ctx, db := t.Context(), b.new(t)
		stale := b.fence("lease", 1)
		raise(t, stale, db)
		tx, err := db.Begin() // a Raise, halfway
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.Exec("UPDATE owner_fence SET epoch = 2"); err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() { result <- stale.Tx(ctx, db, b.opts(), never(t)) }()
		select {
		case err := <-result:
			t.Errorf("has not waited: %v", err)
			result <- err
		case <-time.After(soon):
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		wantError(t, <-result, sqlfence.ErrFenced)
	})
}

// What a new owner reads in its transactions has all that the former owners committed:
// the snapshot is newer than the lock.
func TestNewOwnerSeesAll(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		ctx, db := t.Context(), b.new(t)
		for epoch := range uint64(20) {
			f := b.fence("lease", epoch+1)
			raise(t, f, db)
			err := f.Tx(ctx, db, b.opts(), func(tx *sql.Tx) error {
				var n int
				if err := tx.QueryRow("SELECT count(*) FROM journal").Scan(&n); err != nil {
					return err
				}
				if n != int(epoch) {
					return fmt.Errorf("epoch %d sees %d rows", f.Epoch, n)
				}
				return write(ctx, tx, f.Epoch, n)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Owners that raise at once, on an empty database as well, end with the highest epoch.
func TestRaiseAtOnce(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		const owners = 12
		db := b.new(t)
		var wg sync.WaitGroup
		for epoch := range uint64(owners) {
			wg.Go(func() {
				err := b.fence("lease", epoch+1).Raise(t.Context(), db)
				if err != nil && (epoch+1 == owners || !errors.Is(err, sqlfence.ErrFenced)) {
					t.Errorf("epoch %d: %v", epoch+1, err)
				}
			})
		}
		wg.Wait()
		if n := count(t, db, fmt.Sprintf("owner_fence WHERE epoch = %d", owners)); n != 1 || count(t, db, "owner_fence") != 1 {
			t.Error("the highest epoch is not the one that is stored")
		}
	})
}

// An owner that does not stop, with always some transaction in progress, delays its
// successor by a transaction, and not for ever.
func TestRaiseIsNotStarved(t *testing.T) {
	each(t, []backend{pgCommitted, pgSerializable, mariaRepeat}, func(t *testing.T, b backend) {
		ctx, db := t.Context(), b.new(t)
		stale, next := b.fence("lease", 1), b.fence("lease", 2)
		raise(t, stale, db)
		// Each transaction ends after another has begun, or after some time, if none can.
		var wg sync.WaitGroup
		var begun atomic.Int64
		var starved atomic.Bool
		running := make(chan bool)
		newest := make(chan chan bool, 1)
		newest <- make(chan bool)
		loop := func() {
			for !starved.Load() {
				err := stale.Tx(ctx, db, b.opts(), func(*sql.Tx) error {
					mine := make(chan bool)
					begun.Add(1)
					close(<-newest)
					newest <- mine
					select {
					case running <- true:
					default:
					}
					select {
					case <-mine:
					case <-time.After(10 * soon):
					}
					return nil
				})
				if err != nil {
					wantError(t, err, sqlfence.ErrFenced)
					return
				}
			}
		}
		wg.Go(loop)
		wg.Go(loop)
		for range 5 {
			<-running
		}
		limited, cancel := context.WithTimeout(ctx, 200*soon)
		defer cancel()
		raised := make(chan error, 1)
		go func() { raised <- next.Raise(limited, db) }()
		b.awaitWaiting(t, db, 1)
		before := begun.Load()
		if err := <-raised; err != nil {
			t.Errorf("starved: %v", err)
			starved.Store(true)
		}
		if n := begun.Load() - before; n > 4 {
			t.Errorf("%d transactions have overtaken the Raise", n)
		}
		wg.Wait()
	})
}
