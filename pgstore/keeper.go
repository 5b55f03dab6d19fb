package pgstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A keeper renews the leases of a process, all that are due with one statement on one
// connection. While a statement is under way, the renewals that come are for the next.
//
// A statement that is not answered soon is sent again on another connection, and the first
// answer counts: a connection that is cut cannot be told from a server that is slow.
type keeper struct {
	db *DB

	mu      sync.Mutex
	leases  map[string]string // the instances that are kept, by key
	empty   chan struct{}     // closed when there are none; nil if that is so already
	waiting []*renewal
	sending bool
	conn    *pgx.Conn // while no statement is under way on it
}

// A renewal is one that was asked for.
type renewal struct {
	key, instance, confirmed string
	timeout                  requestTimeout
	answer                   chan answer // has room for it

	sent    int // in how many statements; the keeper's mutex guards the four
	pending int // of those, how many may be answered
	over    bool
	failed  error // what the last of them that has failed says
}

type answer struct {
	incarnation string
	err         error
}

// join is for a lease that is to be kept.
func (k *keeper) join(l *lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.leases == nil {
		k.leases = map[string]string{}
	}
	k.leases[l.store.key] = l.rec.InstanceID
	if k.empty == nil {
		k.empty = make(chan struct{})
	}
}

// leave is for a lease that is kept no longer.
func (k *keeper) leave(l *lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keepsLocked(l.store.key, l.rec.InstanceID) {
		delete(k.leases, l.store.key)
	}
	if len(k.leases) == 0 && k.empty != nil {
		close(k.empty)
		k.empty = nil
	}
}

// untilEmpty returns when no lease is kept, or after this time.
func (k *keeper) untilEmpty(d time.Duration) {
	k.mu.Lock()
	empty := k.empty
	k.mu.Unlock()
	if empty == nil {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-empty:
	case <-timer.C:
	}
}

// keeps reports whether the instance owns the lease, and is of this process.
func (k *keeper) keeps(key, instance string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keepsLocked(key, instance)
}

func (k *keeper) keepsLocked(key, instance string) bool {
	return instance != "" && k.leases[key] == instance
}

// renew renews, and returns the incarnation of the server that has committed it.
func (k *keeper) renew(ctx context.Context, r *renewal) (incarnation string, err error) {
	r.answer = make(chan answer, 1)
	if !k.take(r) {
		return "", errClosed
	}
	select {
	case a := <-r.answer:
		return a.incarnation, a.err
	case <-ctx.Done():
		k.mu.Lock()
		defer k.mu.Unlock()
		return "", unanswered{context.Cause(ctx), r.failed}
	}
}

// take has a renewal sent.
func (k *keeper) take(r *renewal) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = append(k.waiting, r)
	if !k.sending {
		k.sending = k.db.later(k.run)
	}
	return k.sending
}

// A batch is what one statement renews.
type batch struct {
	all        []*renewal
	over       bool // its statement has ended
	superseded bool // it has taken too long: others are sent on another connection
}

// run sends batches, until none are due or another goroutine does.
func (k *keeper) run(context.Context) {
	for {
		b, conn := k.next()
		if b == nil {
			return
		}
		slow := time.AfterFunc(b.patience(), func() { k.supersede(b) })
		conn, found, err := k.send(conn, b.all)
		slow.Stop()
		k.settle(b, found, err)
		if !k.keep(b, conn) {
			return
		}
	}
}

// next takes what is due, and the connection.
func (k *keeper) next() (*batch, *pgx.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiting) == 0 {
		k.sending = false
		return nil, nil
	}
	b := &batch{all: k.waiting}
	conn := k.conn
	k.waiting, k.conn = nil, nil
	for _, r := range b.all {
		r.sent++
		r.pending++
	}
	return b, conn
}

// patience is how long the batch is waited for until it is sent again.
func (b *batch) patience() time.Duration {
	p := b.all[0].timeout
	for _, r := range b.all {
		p = min(p, r.timeout<<(r.sent-1))
	}
	return time.Duration(p)
}

// supersede has a batch that is slow sent again, and those that have come since.
func (k *keeper) supersede(b *batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if b.over {
		return
	}
	b.superseded = k.db.later(k.run)
	again := k.waiting
	for _, r := range b.all {
		if !r.over && r.sent < tries {
			again = append(again, r)
		}
	}
	k.waiting = again
}

// keep keeps the connection for the next batch, and reports whether this goroutine is to
// send that.
func (k *keeper) keep(b *batch, conn *pgx.Conn) bool {
	k.mu.Lock()
	b.over = true
	goOn := !b.superseded
	if k.conn == nil && conn != nil && k.db.ctx.Err() == nil {
		k.conn, conn = conn, nil
	}
	k.mu.Unlock()
	closeSoon(conn)
	return goOn
}

// send sends the statement. A connection that has ended meanwhile, as after a restart of the
// server, is replaced.
func (k *keeper) send(conn *pgx.Conn, all []*renewal) (*pgx.Conn, map[string]answer, error) {
	ctx, cancel := context.WithTimeoutCause(k.db.ctx, maxRequest, fmt.Errorf("%w within %v", errSlow, maxRequest))
	defer cancel()
	for {
		fresh := conn == nil
		var err error
		if fresh {
			if conn, err = k.db.connect(ctx); err != nil {
				return nil, nil, connectError{err}
			}
		}
		found, err := renewAll(ctx, conn, all)
		if err == nil {
			return conn, found, nil
		}
		closeSoon(conn)
		conn = nil
		if fresh || ctx.Err() != nil {
			return nil, nil, err
		}
		k.note(all, err)
	}
}

// note keeps why renewals are sent again.
func (k *keeper) note(all []*renewal, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range all {
		r.failed = err
	}
}

// renewAll renews on a connection. Of those that were not renewed, it finds out why.
func renewAll(ctx context.Context, conn *pgx.Conn, all []*renewal) (map[string]answer, error) {
	keys, instances, confirmed := make([]string, len(all)), make([]string, len(all)), make([]string, len(all))
	for i, r := range all {
		keys[i], instances[i], confirmed[i] = r.key, r.instance, r.confirmed
	}
	found := make(map[string]answer, len(all))
	err := exchange(ctx, conn, func(rows pgx.Rows) error {
		var instance string
		var a answer
		err := rows.Scan(&instance, &a.incarnation)
		found[instance] = a
		return err
	}, sqlRenew, keys, instances, confirmed)
	if err != nil {
		return nil, err
	}
	var missing []*renewal
	keys = nil
	for _, r := range all {
		if _, ok := found[r.instance]; !ok {
			missing, keys = append(missing, r), append(keys, r.key)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	rows, err := readRows(ctx, conn, keys)
	if err != nil {
		return nil, err
	}
	byKey := make(map[string]*row, len(rows))
	for i := range rows {
		byKey[rows[i].key] = &rows[i]
	}
	for _, r := range missing {
		found[r.instance] = answer{err: lost(byKey[r.key], r.instance)}
	}
	return found, nil
}

// settle gives those of a batch their answers. An error that leaves the outcome open counts
// only if no other statement with the renewal is under way.
func (k *keeper) settle(b *batch, found map[string]answer, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range b.all {
		r.pending--
		a := answer{err: err}
		if err == nil {
			a = found[r.instance]
		}
		if r.over || a.err != nil && isPassing(a.err) && r.pending > 0 {
			r.failed = a.err
			continue
		}
		r.over = true
		r.answer <- a
	}
}

func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	closeSoon(k.conn)
	k.conn = nil
}
