package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// requestTimeout is how long a request is waited for until it is made again, on another
// connection: the one before may be cut. It is not given up: the first answer counts, so
// that a server that is only slow, or far away, has its time. All requests that are made
// in this way may be applied twice.
type requestTimeout time.Duration

const (
	tries = 3
	// readTimeout is for requests that do not know the TTL.
	readTimeout = requestTimeout(250 * time.Millisecond)
	// maxRequest is how long one is waited for at all.
	maxRequest = 5 * time.Second
)

// requestTimeoutFor is short enough for the TTL, and not so short that a busy machine
// would be taken for one that is cut off.
func requestTimeoutFor(ttl time.Duration) requestTimeout {
	return requestTimeout(min(max(ttl/24, 80*time.Millisecond), time.Second))
}

// call makes a request on a connection of the pool, and up to two more if it fails in a way
// that can pass, or is slow.
func call[T any](ctx context.Context, db *DB, p requestTimeout, request func(context.Context, *pgx.Conn) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxRequest, fmt.Errorf("%w within %v", errSlow, maxRequest))
	defer cancel()
	defer context.AfterFunc(db.ctx, cancel)()
	type outcome struct {
		answer T
		err    error
	}
	outcomes := make(chan outcome, tries)
	var last outcome
	for begun, ended := 0, 0; ; {
		if begun < tries {
			begun++
			go func() {
				var o outcome
				o.answer, o.err = once(ctx, db, request)
				outcomes <- o
			}()
		}
		timer := time.NewTimer(time.Duration(p) << (begun - 1))
	waiting:
		for {
			select {
			case last = <-outcomes:
				ended++
				if last.err == nil || !isPassing(last.err) || ended == tries {
					timer.Stop()
					return last.answer, last.err
				}
				if ended == begun { // none is under way
					timer.Reset(time.Duration(p) / 8 << (begun - 1))
				}
			case <-timer.C:
				if begun < tries {
					break waiting
				}
			case <-ctx.Done():
				timer.Stop()
				return last.answer, errors.Join(context.Cause(ctx), last.err)
			}
		}
	}
}

// once makes a request. Where it fails, its connection is not used again: the server behind
// it may have become read-only, or not be there any more.
func once[T any](ctx context.Context, db *DB, request func(context.Context, *pgx.Conn) (T, error)) (T, error) {
	var none T
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return none, connectError{err}
	}
	answer, err := request(ctx, conn.Conn())
	if err != nil && isPassing(err) {
		closeSoon(conn.Conn())
	}
	conn.Release()
	return answer, err
}

// read reads leases.
func (db *DB) read(ctx context.Context, p requestTimeout, keys ...string) ([]row, error) {
	return call(ctx, db, p, func(ctx context.Context, conn *pgx.Conn) ([]row, error) {
		return readRows(ctx, conn, keys)
	})
}

func readRows(ctx context.Context, conn *pgx.Conn, keys []string) ([]row, error) {
	all := make([]row, 0, len(keys))
	err := exchange(ctx, conn, func(rows pgx.Rows) error {
		r, err := scanRow(rows)
		all = append(all, r)
		return err
	}, sqlRead, keys)
	if err == nil && len(all) != len(keys) {
		err = fmt.Errorf("a bug: %d rows for %d leases", len(all), len(keys))
	}
	return all, err
}

// change makes a change, and returns how many rows it has changed.
func (db *DB) change(ctx context.Context, p requestTimeout, sql string, args ...any) (int, error) {
	return call(ctx, db, p, func(ctx context.Context, conn *pgx.Conn) (n int, err error) {
		err = exchange(ctx, conn, func(pgx.Rows) error { n++; return nil }, sql, args...)
		return n, err
	})
}
