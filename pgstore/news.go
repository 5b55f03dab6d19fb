package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// news brings what happens to the leases that are watched: by notifications, on one
// connection, and by polls, with one statement for all.
type news struct {
	db *DB

	mu      sync.Mutex
	watches map[string]map[*watch]bool // by key
	end     context.CancelFunc         // of what runs; nil while there are no watches
	heard   chan struct{}              // closed when it is known whether notifications arrive
	deaf    error                      // they do not
	more    chan struct{}              // there may be more to poll for
}

// moment is how long Watch may wait to learn whether notifications arrive.
const moment = 250 * time.Millisecond

// add adds a watch. An error says that there are no notifications.
func (n *news) add(w *watch) error {
	n.mu.Lock()
	if n.db.ctx.Err() != nil {
		n.mu.Unlock()
		return errClosed
	}
	if n.watches == nil {
		n.watches = map[string]map[*watch]bool{}
	}
	if n.watches[w.store.key] == nil {
		n.watches[w.store.key] = map[*watch]bool{}
	}
	n.watches[w.store.key][w] = true
	if n.end == nil {
		n.start()
	}
	heard := n.heard
	n.pollMore()
	n.mu.Unlock()

	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-heard:
	case <-timer.C:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaf
}

// start starts what brings the news. The mutex is held.
func (n *news) start() {
	ctx, end := context.WithCancel(n.db.ctx)
	n.end, n.heard, n.deaf, n.more = end, make(chan struct{}), nil, make(chan struct{}, 1)
	more := n.more
	n.db.later(func(context.Context) { n.listen(ctx) })
	n.db.later(func(context.Context) { n.poll(ctx, more) })
}

// remove removes a watch. The last one ends the rest.
func (n *news) remove(w *watch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.watches[w.store.key], w)
	if len(n.watches[w.store.key]) > 0 {
		return
	}
	delete(n.watches, w.store.key)
	if len(n.watches) == 0 && n.end != nil {
		n.end()
		n.end = nil
	}
}

// tell gives a hint to the watches of a lease, or of all.
func (n *news) tell(key string, all bool) {
	for _, w := range n.of(func(k string) bool { return all || k == key }) {
		w.tell()
	}
}

func (n *news) of(wanted func(key string) bool) (found []*watch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, watches := range n.watches {
		if wanted(key) {
			for w := range watches {
				found = append(found, w)
			}
		}
	}
	return found
}

// know notes whether notifications arrive. It is known from then on.
func (n *news) know(ctx context.Context, deaf error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ctx.Err() != nil {
		return // others run by now
	}
	n.deaf = deaf
	select {
	case <-n.heard:
	default:
		close(n.heard)
	}
	n.pollMore()
}

// pollMore has the polls begin again where there was nothing to poll for. The mutex is held.
func (n *news) pollMore() {
	select {
	case n.more <- struct{}{}:
	default:
	}
}

// isDeaf reports whether it is known that no notifications arrive.
func (n *news) isDeaf() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaf != nil
}

// The pauses between attempts to listen again.
const (
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
)

// listen listens, and begins again where the connection ends.
func (n *news) listen(ctx context.Context) {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := n.follow(ctx, func() { pause = minPause })
		n.know(ctx, fmt.Errorf("no notifications from %v, so that changes are found by polls only: %w", n.db, err))
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return
		}
	}
}

var errDeaf = errors.New("LISTEN was accepted, and NOTIFY not heard; pgbouncer does not pass it on in its modes transaction and statement")

// follow listens on one connection, until that ends. It gives a hint when it has begun, as
// something may have happened before.
func (n *news) follow(ctx context.Context, begun func()) error {
	first, cancel := context.WithTimeout(ctx, maxRequest)
	defer cancel()
	conn, err := n.db.connect(first)
	if err != nil {
		return err
	}
	defer closeSoon(conn)
	if _, err := conn.Exec(first, "LISTEN "+channel); err != nil {
		return err
	}
	if err := n.probe(first, conn); err != nil {
		return err
	}
	begun()
	n.know(ctx, nil)
	n.tell("", true)
	for {
		if err := n.receive(ctx, conn); err != nil {
			return err
		}
	}
}

// probe sends a notification on another connection, and waits for it. Those for leases that
// come meanwhile are as good as the hint that all get afterwards.
func (n *news) probe(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Second, errDeaf)
	defer cancel()
	name := "p" + uuid.NewString()
	if _, err := once(ctx, ctx, n.db.pooled, func(ctx context.Context, c *pgx.Conn) (struct{}, error) {
		_, err := c.Exec(ctx, "SELECT pg_notify('"+channel+"', $1)", name)
		return struct{}{}, err
	}); err != nil {
		return err
	}
	for {
		got, err := conn.WaitForNotification(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case got.Payload == name:
			return nil
		}
	}
}

// receive waits for a notification. Where none comes for long, it asks whether the
// connection still lives.
func (n *news) receive(ctx context.Context, conn *pgx.Conn) error {
	const long = 10 * time.Second
	quiet, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	got, err := conn.WaitForNotification(quiet)
	switch {
	case err == nil:
		if key, ok := strings.CutPrefix(got.Payload, "k"); ok {
			n.tell(key, false)
		}
		return nil
	case ctx.Err() != nil || quiet.Err() == nil:
		return err
	}
	ping, cancel := context.WithTimeout(ctx, maxRequest)
	defer cancel()
	return conn.Ping(ping)
}

// sleep reports whether ctx has not ended by then.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
