package sqltest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ownerlease/owner/sqlfence"
)

// once is the function of a transaction that has this result for this key, now or before.
func once(tb testing.TB, ctx context.Context, key, result string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		got, err := sqlfence.Once(ctx, tx, key, func() ([]byte, error) { return []byte(result), nil })
		if err == nil && string(got) != result {
			tb.Errorf("the key %q has the result %q, and not %q", key, got, result)
		}
		return err
	}
}

// notAgain is the function of a key that has its result, or is refused.
func notAgain(tb testing.TB) func() ([]byte, error) {
	return func() ([]byte, error) {
		tb.Error("called again")
		return nil, nil
	}
}

func TestOnce(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		ctx, db := t.Context(), b.new(t)
		f, next := b.fence("lease", 1), b.fence("lease", 2)
		raise(t, f, db)
		binary := "\x00\xff result\x00"
		put := func(tx *sql.Tx) error {
			got, err := sqlfence.Once(ctx, tx, "key", func() ([]byte, error) { return []byte(binary), write(ctx, tx, 1, 1) })
			if string(got) != binary {
				t.Errorf("result %q", got)
			}
			return err
		}
		for range 3 { // the third one in the name of a successor
			if err := f.Tx(ctx, db, b.opts(), put); err != nil {
				t.Fatal(err)
			}
			raise(t, next, db)
			f = next
		}
		err := f.Tx(ctx, db, b.opts(), func(tx *sql.Tx) error { // twice in one transaction
			for range 2 {
				if err := put(tx); err != nil {
					return err
				}
				if err := once(t, ctx, "another", "result")(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || count(t, db, "journal") != 1 {
			t.Errorf("%v, %d rows", err, count(t, db, "journal"))
		}
		for _, empty := range [][]byte{nil, {}} {
			for range 2 {
				err := f.Tx(ctx, db, b.opts(), func(tx *sql.Tx) error {
					got, err := sqlfence.Once(ctx, tx, fmt.Sprint("empty", empty == nil), func() ([]byte, error) { return empty, nil })
					if got != nil {
						t.Errorf("%#v instead of nil", got)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		}
		other := b.fence("other", 1)
		raise(t, other, db)
		if err := other.Tx(ctx, db, b.opts(), once(t, ctx, "key", "of another lease")); err != nil {
			t.Error(err)
		}
	})
}

func TestKeyOfAnotherRequest(t *testing.T) {
	each(t, kinds, func(t *testing.T, b backend) {
		db, f := b.new(t), b.fence("lease", 1)
		raise(t, f, db)
		request := func(body string) context.Context { return sqlfence.WithRequest(t.Context(), []byte(body)) }
		if err := f.Tx(t.Context(), db, nil, once(t, request("body"), "key", "result")); err != nil {
			t.Fatal(err)
		}
		for _, ctx := range []context.Context{request("Body"), request(""), t.Context()} {
			err := f.Tx(t.Context(), db, nil, func(tx *sql.Tx) error {
				_, err := sqlfence.Once(ctx, tx, "key", notAgain(t))
				wantError(t, err, sqlfence.ErrKeyReused)
				return write(t.Context(), tx, 1, 1) // the transaction can go on
			})
			if err != nil {
				t.Error(err)
			}
		}
		if err := f.Tx(t.Context(), db, nil, once(t, request("body"), "key", "result")); err != nil {
			t.Error(err)
		}
	})
}

func TestInvalidOnce(t *testing.T) {
	each(t, kinds, func(t *testing.T, b backend) {
		ctx, db, f := t.Context(), b.new(t), b.fence("lease", 1)
		raise(t, f, db)
		var kept *sql.Tx
		err := f.Tx(ctx, db, nil, func(tx *sql.Tx) error {
			kept = tx
			for _, key := range []string{"", strings.Repeat("x", 256), strings.Repeat("x", 1<<20)} {
				_, err := sqlfence.Once(ctx, tx, key, notAgain(t))
				wantError(t, err, sqlfence.ErrInvalid)
			}
			_, err := sqlfence.Once(ctx, tx, "key", nil)
			wantError(t, err, sqlfence.ErrInvalid)
			if err := once(t, ctx, strings.Repeat("x", 255), strings.Repeat("r", 1<<20))(tx); err != nil {
				return err
			}
			return once(t, ctx, "\x00\xff", "bytes of any value")(tx)
		})
		if err != nil {
			t.Error(err)
		}
		_, err = sqlfence.Once(ctx, kept, "key", notAgain(t))
		wantError(t, err, sqlfence.ErrInvalid)
		_, err = sqlfence.Once(ctx, nil, "key", notAgain(t))
		wantError(t, err, sqlfence.ErrInvalid)
		plain, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		_, err = sqlfence.Once(ctx, plain, "key", notAgain(t))
		wantError(t, err, sqlfence.ErrInvalid)
		_ = plain.Rollback()
		if n := count(t, db, "owner_once"); n != 2 {
			t.Errorf("%d keys", n)
		}
	})
}

// A function that fails leaves its key free, and its transaction does not commit, even if
// the error is dropped.
func TestFailedOnce(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		ctx, db, f := t.Context(), b.new(t), b.fence("lease", 1)
		raise(t, f, db)
		fails := map[string]func(tx *sql.Tx) ([]byte, error){
			"error":            func(*sql.Tx) ([]byte, error) { return nil, errMine },
			"panic":            func(*sql.Tx) ([]byte, error) { panic(errMine) },
			"too large":        func(*sql.Tx) ([]byte, error) { return make([]byte, 1<<20+1), nil },
			"inside of itself": func(tx *sql.Tx) ([]byte, error) { return sqlfence.Once(ctx, tx, "key", notAgain(t)) },
		}
		for name, fail := range fails {
			err := f.Tx(ctx, db, b.opts(), func(tx *sql.Tx) error {
				defer func() { _ = recover() }()
				_, _ = sqlfence.Once(ctx, tx, "key", func() ([]byte, error) {
					if err := write(ctx, tx, 1, 1); err != nil {
						t.Error(err)
					}
					return fail(tx)
				})
				return nil
			})
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			if n := count(t, db, "journal") + count(t, db, "owner_once"); n != 0 {
				t.Errorf("%s: %d rows are written", name, n)
			}
		}
		if err := f.Tx(ctx, db, b.opts(), once(t, ctx, "key", "result")); err != nil {
			t.Error(err)
		}
	})
}

// Of many transactions with one key, one runs the function, and all that commit return
// its result. Where some are rolled back, another runs it.
func TestOnceAtOnce(t *testing.T) {
	each(t, backends, func(t *testing.T, b backend) {
		ctx, db, f := t.Context(), b.new(t), b.fence("lease", 1)
		raise(t, f, db)
		var wg sync.WaitGroup
		var calls, failures atomic.Int64
		for i := range 12 {
			wg.Go(func() {
				for try := 0; ; try++ {
					err := f.Tx(ctx, db, b.opts(), func(tx *sql.Tx) error {
						got, err := sqlfence.Once(ctx, tx, "key", func() ([]byte, error) {
							if calls.Add(1) < 4 {
								return nil, errMine // it is rolled back
							}
							return []byte("result"), write(ctx, tx, 1, i)
						})
						if err == nil && !bytes.Equal(got, []byte("result")) {
							t.Errorf("result %q", got)
						}
						return err
					})
					if err == nil {
						return
					}
					if !errors.Is(err, errMine) {
						failures.Add(1) // a deadlock, or an old snapshot: again
					}
					if try > 100 {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if n := count(t, db, "journal"); n != 1 {
			t.Errorf("%d rows", n)
		}
		t.Logf("%d calls, %d failures of the database", calls.Load(), failures.Load())
		if b.dialect == sqlfence.SQLite && failures.Load() > 0 {
			t.Error("SQLite has no deadlocks and no old snapshots")
		}
	})
}
