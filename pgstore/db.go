package pgstore

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/ownerlease/owner"
)

// DB is the way to the leases in one database, for all stores of a process. It has a few
// connections of its own, so that a program that uses up its pool loses no lease: one for
// all renewals, one for notifications, and a small pool for the rest. All methods may be
// called from several goroutines.
type DB struct {
	pool   *pgxpool.Pool
	keeper keeper
	news   news

	refused atomic.Pointer[refusal]

	ctx context.Context // ends with Close
	end context.CancelFunc

	mu   sync.Mutex     // of what begins work, and of Close
	work sync.WaitGroup // what Close waits for
}

// Open returns the way to the database of a configuration, which pgxpool.ParseConfig makes
// of a connection string, or which is that of a pool: pool.Config(). It connects when a
// store is used first, and by itself again after a failure. The caller closes it.
//
// Of the pool's settings, MaxConns bounds the connections besides the two for renewals and
// notifications; the hooks are called for all of them. With several hosts, only one that
// accepts writes is used, whatever target_session_attrs says.
//
// Statements are not prepared, and leave nothing in the session, so that pgbouncer may be
// between, in the mode transaction; there are no notifications then, and standbys poll.
func Open(cfg *pgxpool.Config) (*DB, error) {
	cfg = cfg.Copy()
	c := cfg.ConnConfig
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	if len(c.Fallbacks) > 0 {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	c.OnNotice = noteWarnings(c.OnNotice)
	c.RuntimeParams["client_encoding"] = "UTF8" // whatever the database's is
	db := &DB{}
	c.DialFunc = db.noteRefusals(c.DialFunc)
	cfg.MinConns, cfg.MinIdleConns = 0, 0 // it is used before it has to be reached
	if cfg.PingTimeout == 0 {
		cfg.PingTimeout = time.Duration(readTimeout)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: Postgres at %s: %w", owner.ErrInvalidConfig, c.Host, err)
	}
	db.pool = pool
	db.ctx, db.end = context.WithCancel(context.Background())
	db.keeper.db, db.news.db = db, db
	return db, nil
}

// Close ends the connections. The leases that are still owned are not renewed any more. An
// Owner that has lost its lease releases it after its Release has returned: so Close waits
// for leases that were not released, for a second at most.
func (db *DB) Close() {
	db.keeper.untilEmpty(time.Second)
	db.mu.Lock()
	db.end()
	db.mu.Unlock()
	db.work.Wait()
	db.keeper.close()
	db.pool.Close()
}

// later does something in a goroutine that Close ends and waits for. It reports whether the
// DB was open.
func (db *DB) later(do func(context.Context)) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.ctx.Err() != nil {
		return false
	}
	db.work.Go(func() { do(db.ctx) })
	return true
}

// String names the database in errors.
func (db *DB) String() string {
	c := db.pool.Config().ConnConfig
	hosts := []string{fmt.Sprintf("%s:%d", c.Host, c.Port)}
	for _, f := range c.Fallbacks { // also the same host without TLS
		if host := fmt.Sprintf("%s:%d", f.Host, f.Port); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return fmt.Sprintf("Postgres database %s at %s", c.Database, strings.Join(hosts, ", "))
}

// connect makes a connection that is not the pool's.
func (db *DB) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg := db.pool.Config()
	c := cfg.ConnConfig
	if cfg.BeforeConnect != nil {
		if err := cfg.BeforeConnect(ctx, c); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err == nil && cfg.AfterConnect != nil {
		if err = cfg.AfterConnect(ctx, conn); err != nil {
			closeSoon(conn)
		}
	}
	return conn, err
}

// A refusal is a dial that has failed.
type refusal struct {
	at  time.Time
	err error
}

// noteRefusals keeps the last refusal. Of several hosts, pgx says it only when all have failed,
// and the last may be one that does not answer.
func (db *DB) noteRefusals(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil && ctx.Err() == nil {
			db.refused.Store(&refusal{time.Now(), err})
		}
		return conn, err
	}
}

// refusedSince returns why the last dial has failed, nil if none has since then.
func (db *DB) refusedSince(began time.Time) error {
	if r := db.refused.Load(); r != nil && r.at.After(began) {
		return r.err
	}
	return nil
}

// closeSoon closes a connection, which may be cut.
func closeSoon(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

const warningKey = "github.com/ownerlease/owner/pgstore"

// noteWarnings keeps the last warning of each connection: a commit that gives up its wait
// for a synchronous replica succeeds, with a warning.
func noteWarnings(next pgconn.NoticeHandler) pgconn.NoticeHandler {
	return func(c *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" || n.Severity == "WARNING" {
			c.CustomData()[warningKey] = n.Message
		}
		if next != nil {
			next(c, n)
		}
	}
}

// exchange sends a statement, and what holds for it alone, in one message: a transaction
// that commits at its end. It passes the rows to scan. nil says that it was committed, as
// durably as the server can: a commit without that is an error with an unknown outcome.
//
// The server ends a statement that this client no longer waits for.
func exchange(ctx context.Context, conn *pgx.Conn, scan func(pgx.Rows) error, sql string, args ...any) error {
	limit := maxRequest
	if at, ok := ctx.Deadline(); ok {
		limit = min(limit, max(time.Until(at), time.Millisecond))
	}
	data := conn.PgConn().CustomData()
	delete(data, warningKey)
	var b pgx.Batch
	b.Queue(sqlLocal, limit.Milliseconds()+1, min(limit/2, maxLock).Milliseconds()+1)
	b.Queue(sql, args...)
	answers := conn.SendBatch(ctx, &b)
	_, err := answers.Exec()
	if err == nil {
		err = scanAll(answers, scan)
	}
	if closed := answers.Close(); err == nil {
		err = closed
	}
	if warning, ok := data[warningKey]; ok && err == nil {
		err = fmt.Errorf("%w: %v", errWarned, warning)
	}
	return err
}

func scanAll(answers pgx.BatchResults, scan func(pgx.Rows) error) error {
	rows, err := answers.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
