// Package pgstore keeps a lease in Postgres, for instances on several machines.
//
//	cfg, err := pgxpool.ParseConfig("postgres://db/app")
//	…
//	db, err := pgstore.Open(cfg)
//	…
//	defer db.Close()
//	o, err := owner.Join(ctx, owner.Config{Store: pgstore.New(db, "gpu"), TTL: 10 * time.Second})
//
// [Setup], or "owner-pg setup", makes the table owner_lease once for each database.
//
// # The protocol
//
// A lease is a row: the instance that has it, its epoch, a beat that each renewal counts
// up, the TTL, whether it is held, the owner's record, and the incarnation of the server
// that has confirmed it: the system identifier and the timeline, which a promotion
// changes. No server clock decides anything.
//
//  1. Renew. The owner reads its own clock, s, and then counts the beat up where the row
//     has its instance and is held. If that is committed and answered, the owner is valid
//     until s + TTL. If no row was changed, it reads why.
//  2. Sight. A challenger reads its clock, c, after the answer that first showed this
//     instance, beat, held and incarnation.
//  3. Expiry. The lease is free when the challenger's clock shows c + the row's TTL and
//     the row is still the same; or at once where the row is not held.
//  4. Acquire. The challenger reads its clock, and sends one statement, which changes the
//     row only if it is as it was read. The epoch becomes the wall clock in milliseconds,
//     and at least one more than the last. If the answer is lost, the challenger releases
//     by its own instance, which no other uses.
//  5. Incarnation. Where the row was not confirmed by the server as it is now, whatever it
//     says may be out of date: the lease is free only the table's longest TTL (see Setup)
//     after it was first seen. The same holds for a row that is missing, by the
//     incarnation in the anchor, the row that Setup makes.
//  6. Release. The owner, when it has stopped, sets held to false where the row has its
//     instance.
//
// # Why there are never two valid owners
//
//   - Expiry. Beat n of an owner A was sent after s, and committed before a challenger could
//     read it, at c: so A's validity ends by s + TTL, which is before c + TTL. A later beat
//     that the challenger reads begins a new sight. One that is committed after its last
//     read fails the condition of its acquisition, or comes after it and changes no row.
//     The clocks need only run at the same rate, within the SafetyMargin.
//   - Not held. A has written that itself, after it had stopped.
//   - Two challengers. The row has one lock, and the condition of the second fails.
//   - Lost commits. A promoted standby may lack A's acquisition and its renewals. The last
//     renewal that counts for A was answered before the old server ended, so A is valid for
//     no longer than the longest TTL after a challenger has first seen the new one.
//
// A renewal never confirms a row for a server that has not confirmed the ownership before,
// so a row's incarnation is that of a server that knows of its acquisition.
//
// # What it does not promise
//
// An old primary that is cut off from its standbys, and still commits, is a second database:
// owners there and owners at the promoted one are not excluded from each other unless
// replication is synchronous. Rows of owner_lease that are changed by hand, and backups that
// are restored while owners run, are not seen through. A trigger refuses to delete rows.
//
// A COMMAND of owner-pg, or any work in other processes, can outlive the process that owns:
// see [Unwitnessed].
//
// # Witnesses
//
// A server cannot tell that a process has died: a session that has ended may be one that was
// terminated while its owner is valid. So by the protocol the lease of a dead owner is free
// when it has expired. On Linux, every instance that follows the lease on the owner's machine
// is a witness as well: the kernel reports the end of the owner's process to it, and it
// releases the lease by the dead owner's instance. That is no guess. See package witness.
//
// # Rights, and settings of the server
//
// A user needs SELECT, INSERT and UPDATE on owner_lease, and EXECUTE on pg_control_system and
// pg_walfile_name, which every user has unless it was revoked. Only Setup needs CREATE.
//
// Every change is committed with synchronous_commit on, whatever the server's default is, and
// a warning that the wait for a standby was cancelled does not count as a commit. The table
// must not be UNLOGGED. statement_timeout and lock_timeout are set for each transaction, so
// those of the role do not matter. Nothing is prepared or kept in a session: pgbouncer may be
// between, in the mode transaction, and only notifications are missing then.
//
// All renewals of a process to one database are one statement on one connection.
//
// # Fencing
//
// [Fence] keeps the lease for the transactions of its owner: the row of the lease is locked
// until the transaction ends, and another instance acquires only then.
package pgstore
