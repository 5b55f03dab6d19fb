package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/ownerlease/owner"
)

// ErrFenced: the owner of a Guard has lost the lease, and its transaction must not commit.
var ErrFenced = errors.New("pgstore: the owner has lost the lease")

// A Guard fences the transactions of an owner by the row of its lease, which is in the same
// database as what they change.
type Guard struct {
	instance string
	epoch    uint64
	ttl      int64 // in milliseconds
}

// Fence returns the guard of an owner's transactions, for an Owner that owns a lease of a
// store of this package.
func Fence(o *owner.Owner) Guard {
	return Guard{o.InstanceID(), o.Epoch(), o.Holder().TTL.Milliseconds()}
}

// Check is to be the first statement of a transaction, which it keeps the lease for: until
// the transaction ends, no other instance acquires the lease. It matches ErrFenced where
// another has, or the lease was released or revoked: roll back then. After any error the
// transaction must not commit.
//
// A standby waits with its acquisition for the transactions that have begun under the lease
// of the last owner, also after its expiry. So that one whose client hangs does not keep it
// waiting, the server ends a transaction that is idle for longer than the lease's TTL:
// Check sets idle_in_transaction_session_timeout, unless it is lower. A transaction that
// works is waited for.
//
// The lock is FOR KEY SHARE, which neither renewals nor other guarded transactions wait for.
func (g Guard) Check(ctx context.Context, tx pgx.Tx) error {
	sql, args := g.SQL()
	return g.checked(tx.QueryRow(ctx, sql, args...).Scan(nil))
}

func (g Guard) checked(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: instance %s, epoch %d", ErrFenced, g.instance, g.epoch)
	}
	return err
}

// SQL returns Check's statement and its arguments, for other drivers, and for a transaction
// that is to be fenced without a round trip of its own. It returns one row if the transaction
// may go on, none if it is fenced. As a part of the first statement that writes,
//
//	WITH guard AS (sql) INSERT INTO entries SELECT $4 FROM guard
//
// writes nothing where the owner is fenced: then the number of rows is 0.
func (g Guard) SQL() (sql string, args []any) {
	return sqlFence, []any{g.instance, int64(g.epoch), g.ttl}
}
