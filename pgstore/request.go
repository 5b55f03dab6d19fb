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
	// maxRequest is how long one is waited for at all, and before, a connection for it.
	maxRequest = 5 * time.Second
	// maxLock is how long the server waits for a row that another transaction has locked.
	maxLock = 250 * time.Millisecond
)

// requestTimeoutFor is short enough for the TTL, and not so short that a busy machine
// would be taken for one that is cut off.
func requestTimeoutFor(ttl time.Duration) requestTimeout {
	return requestTimeout(min(max(ttl/24, 80*time.Millisecond), time.Second))
}

// call makes a request, on a connection of the pool. If it fails in a way that can pass, or
// is slow, it is made up to two more times, each on a new connection.
//
// A request that is no longer waited for is not cancelled, which would cost its connection,
// and the server a new one, when it is busy already.
func call[T any](ctx context.Context, db *DB, p requestTimeout, request func(context.Context, *pgx.Conn) (T, error)) (T, error) {
	began := time.Now()
	c := &attempts[T]{db: db, request: request, outcomes: make(chan outcome[T], tries), begun: make(chan struct{}, tries)}
	queued, leave := context.WithTimeoutCause(ctx, maxRequest, fmt.Errorf("%w within %v", errSlow, maxRequest))
	defer leave()
	if !c.start(queued, db.pooled) {
		return *new(T), errClosed
	}
	var last outcome[T]
	var known error                  // why the last attempt has failed that has ended by itself
	slow := time.NewTimer(time.Hour) // set when a connection was had: until then, none is cut
	defer slow.Stop()
	for started, ended := 1, 0; ; {
		select {
		case last = <-c.outcomes:
			ended++
			switch {
			case last.err == nil && ended < started:
				db.pool.Reset() // a connection has been slower than a new one
				return last.answer, nil
			case last.err == nil || !isPassing(last.err):
				return last.answer, last.err
			case queued.Err() != nil: // it may say only that
			case ended == tries:
				return last.answer, last.err
			default:
				known = last.err
				if ended == started { // none is under way
					slow.Reset(time.Duration(p) / 8 << started)
				}
			}
		case <-c.begun:
			slow.Reset(time.Duration(p) << (started - 1))
		case <-slow.C:
			if started < tries && c.start(queued, db.dialled) {
				started++
			}
		case <-queued.Done():
			if known == nil {
				known = db.refusedSince(began)
			}
			return last.answer, unanswered{context.Cause(queued), known}
		case <-db.ctx.Done():
			return last.answer, errClosed
		}
	}
}

// attempts are those of one call.
type attempts[T any] struct {
	db       *DB
	request  func(context.Context, *pgx.Conn) (T, error)
	outcomes chan outcome[T]
	begun    chan struct{} // one for each that has its connection
}

type outcome[T any] struct {
	answer T
	err    error
}

// start makes an attempt. queued bounds how long it waits for a connection.
func (c *attempts[T]) start(queued context.Context, open func(context.Context) (*pgx.Conn, func(error), error)) bool {
	return c.db.later(func(ctx context.Context) {
		var o outcome[T]
		o.answer, o.err = once(ctx, queued, open, func(ctx context.Context, conn *pgx.Conn) (T, error) {
			c.begun <- struct{}{}
			return c.request(ctx, conn)
		})
		c.outcomes <- o
	})
}

// once makes a request on a connection that it waits for as long as queued lasts.
func once[T any](ctx, queued context.Context, open func(context.Context) (*pgx.Conn, func(error), error), request func(context.Context, *pgx.Conn) (T, error)) (T, error) {
	conn, done, err := open(queued)
	if err != nil {
		return *new(T), connectError{err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxRequest, fmt.Errorf("%w within %v", errSlow, maxRequest))
	defer cancel()
	answer, err := request(ctx, conn)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	done(err)
	return answer, err
}

// pooled takes a connection from the pool. One on which a request has failed does not go
// back: the server behind it may have become read-only, or not be there any more.
func (db *DB) pooled(ctx context.Context) (*pgx.Conn, func(error), error) {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	return conn.Conn(), func(err error) {
		if err != nil && isPassing(err) {
			closeSoon(conn.Conn())
		}
		conn.Release()
	}, nil
}

// dialled makes a connection for one request.
func (db *DB) dialled(ctx context.Context) (*pgx.Conn, func(error), error) {
	conn, err := db.connect(ctx)
	return conn, func(error) { closeSoon(conn) }, err
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
