// Package pgstore keeps a lease in Postgres, for instances on several machines.
//
//	cfg, err := pgxpool.ParseConfig("postgres://db/app")
//	…
//	db, err := pgstore.Open(cfg)
//	…
//	defer db.Close()
//	err = pgstore.Setup(ctx, db, 0) // once for each database
//	…
//	o, err := owner.Join(ctx, owner.Config{Store: pgstore.New(db, "gpu0"), TTL: 10 * time.Second})
//
// # The protocol
//
// Each lease is a row of the table owner_lease: its key, the instance, the epoch, the
// beat, the TTL, whether it is held, whether it was revoked, the record, and the
// incarnation of the server, which is its system identifier and timeline. No clock of a
// server decides anything.
//
//  1. Renew. The owner reads its clock, s, and sends an UPDATE that adds one to the beat of
//     the row with its key and instance, if it is held and not revoked. One row, committed:
//     the lease is valid until s + TTL. No row: it reads why.
//  2. Sight. A challenger reads its clock, c, after the answer that first showed the row's
//     (instance, beat, held, incarnation).
//  3. Expiry. A held lease is free when the challenger's clock has come to c + the row's
//     TTL, and the row is still as it was.
//  4. Acquire. The challenger reads its clock, from which its own first TTL counts, and
//     sends one statement that takes the row if it has the same (instance, beat, held,
//     incarnation), on a server with the same incarnation. The epoch is at least one more
//     than the last, and the wall clock in milliseconds. After a lost answer, the
//     challenger releases the lease by its instance. If transactions that are fenced by the
//     row (see [Fence]) keep it from that, it writes that the lease is not held, under the
//     same condition, so that no further one begins.
//  5. Incarnation. If the row's incarnation is not the server's, the server may lack what
//     another has committed. Whatever the row says, the lease is free only when the longest
//     TTL of the table has passed since the row was first seen so. For a row that does not
//     exist, the incarnation of the anchor counts: the row with the empty key, which Setup
//     makes. An owner whose renewal the server has answered in time has the next one write
//     the server's incarnation into the row.
//  6. Release. held becomes false, by key and instance.
//  7. The rest. An advertisement, a request to step down and a revocation change the row by
//     key and instance, too, and leave the beat as it is: none of them is a renewal. They,
//     acquisitions and releases NOTIFY; renewals do not.
//
// # Why there are never two valid owners
//
// Expiry: A's beat n was sent after s and committed before c, so that A's lease ends by s +
// TTL ≤ c + TTL. A later beat gives a new sight, or fails clause 4. One that is committed
// after the read is answered after it, and cannot count: the row is locked by one of the
// two statements, and the other finds it changed. The clocks need to run at the same rate
// only, within the SafetyMargin.
//
// Free: the owner writes that, when it has stopped; a witness that has seen its process
// die; or a challenger that could have acquired the lease.
//
// Race: two challengers need the lock of one row, and the second finds it changed.
//
// Failover: commits that a promoted server lacks were answered by the one before, which
// must be dead then. The ownership that they gave ends within the longest TTL of that, and
// so of clause 5's sight. A server that answers in an incarnation while an owner is valid
// shows that no such commit gave the lease to another: it would have had to wait for this
// owner. So that owner may write the incarnation.
//
// # What it needs
//
// Postgres 12 or later, and a role with USAGE on the schema, SELECT, INSERT and UPDATE on
// owner_lease, and EXECUTE on pg_control_system, which Postgres grants to all. No TTL is
// longer than Setup was told. The server must survive its own crashes (fsync). The store
// sets synchronous_commit for each of its statements; a commit that was answered with a
// warning, as when the wait for a synchronous replica is cancelled, does not count. What
// else a database or a role sets by default, like the level of isolation, does not matter.
//
// # What is not promised
//
// An old primary that is isolated, and not dead, when a replica is promoted, can go on to
// renew an owner's lease: only synchronous replication, or fencing it, helps. A snapshot or
// a copy of the data that runs as the same timeline cannot be recognized: let the longest
// TTL pass after a restore. Deleting a row breaks the guarantee, so a trigger refuses it.
//
// # Through pgbouncer
//
// Its mode transaction is fine. It passes on no notifications, which Watch reports, and
// changes are found by polls, every 20 ms.
package pgstore
