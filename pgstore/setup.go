package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ownerlease/owner"
)

// DefaultMaxTTL is the longest TTL of the leases of a table where Setup is not told
// another.
const DefaultMaxTTL = time.Minute

// Setup makes the table owner_lease in the first schema of the search_path, once for each
// database, or does nothing where it is there. Only Setup needs the right to create a
// table; see the package's documentation for those that a store needs.
//
// maxTTL is the longest TTL that a lease can have, DefaultMaxTTL if it is 0. A server that
// was promoted may have lost what the one before has committed, and so lets each lease be
// acquired only when so much time has passed. It cannot be changed while instances run: an
// existing table that has another is an error, which matches owner.ErrInvalidConfig.
//
// Setup is not part of the first acquisition, as a failover could lose that together
// with the table, and another instance would find a table that knows of no owner. For
// the same reason, if a failover has lost the table itself, do not set it up again before
// the owners have stopped.
func Setup(ctx context.Context, db *DB, maxTTL time.Duration) error {
	if maxTTL == 0 {
		maxTTL = DefaultMaxTTL
	}
	const what = "set up the table owner_lease"
	if maxTTL < minTTL {
		return fmt.Errorf("owner: %s: %w: the longest TTL is %v, and %v is the least", what, owner.ErrInvalidConfig, maxTTL, minTTL)
	}
	err := db.verify(ctx, maxTTL)
	if sqlState(err) == "42P01" || errors.Is(err, errEmpty) {
		_, err = call(ctx, db, requestTimeout(time.Second), func(ctx context.Context, conn *pgx.Conn) (struct{}, error) {
			return struct{}{}, create(ctx, conn, maxTTL)
		})
		if err == nil {
			err = db.verify(ctx, maxTTL)
		}
	}
	if err != nil {
		return fmt.Errorf("owner: %w", db.failed(ctx, what, err))
	}
	return nil
}

// create makes the table and its anchor in one transaction, unless another has done so.
func create(ctx context.Context, conn *pgx.Conn, maxTTL time.Duration) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // nothing, after a commit
	var there bool
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('owner_lease'))`); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, `SELECT to_regclass('owner_lease') IS NOT NULL`).Scan(&there); err != nil {
		return err
	}
	if !there {
		// The statements have no arguments, so that several can be one message.
		if _, err := tx.Exec(ctx, sqlCreate+";"+sqlKeep, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, sqlAnchor, int64(maxTTL)); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// verify reads the anchor.
func (db *DB) verify(ctx context.Context, maxTTL time.Duration) error {
	rows, err := db.read(ctx, readTimeout, "")
	if err == nil && rows[0].maxTTL != maxTTL {
		err = fmt.Errorf("%w: the table was set up with %v as the longest TTL, not %v; to change it, stop all instances, and UPDATE owner_lease SET ttl = %d WHERE key = ''",
			owner.ErrInvalidConfig, rows[0].maxTTL, maxTTL, int64(maxTTL))
	}
	return err
}
