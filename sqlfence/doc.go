// Package sqlfence makes a database refuse the transactions of a former owner.
//
//	fence := sqlfence.Fence{Lease: "jobs", Epoch: o.Epoch(), Dialect: sqlfence.Postgres}
//	err := fence.Raise(ctx, db) // once after the election, before anything is read
//	err = fence.Tx(ctx, db, nil, func(tx *sql.Tx) error { … }) // each write
//
// No lease can keep an owner from being stopped between asking whether it owns and
// writing. With a [Fence], such an owner gets [ErrFenced] instead, however late it
// continues.
//
// # The guarantee
//
// After [Fence.Raise] has returned nil, no transaction of a lower epoch commits through
// [Fence.Tx]. The argument: the database has one row for each lease, which holds the
// epoch of its owner. The first statement of a transaction locks that row, compares the
// epoch, and keeps the lock to the end of the transaction. Raise changes the row, and
// waits for these locks. So a transaction of a lower epoch either has ended when Raise
// returns, or finds the new epoch.
//
//   - SQLite: an UPDATE of the row, which takes the write lock of the file. A snapshot
//     that is taken with the write lock is the newest.
//   - Postgres: SELECT … FOR SHARE, so that transactions of one owner run at once. At
//     REPEATABLE READ and SERIALIZABLE, it fails if the row has changed since the
//     snapshot: Tx looks why, and returns ErrFenced where that is the reason. An advisory
//     lock keeps the order of those that wait, so that an owner that does not stop cannot
//     delay its successor for ever.
//   - MySQL and MariaDB: SELECT … LOCK IN SHARE MODE, which reads what is committed at
//     every isolation.
//
// # What it does not promise
//
// Only writes of Tx are fenced: not those that bypass it, nor what a function does
// elsewhere. A transaction of a former owner that has begun can commit until Raise
// returns. Nested calls of Tx for one lease can wait for each other for ever. In SQLite,
// Raise waits with busy_timeout and without an order, and a process that is stopped while
// it writes keeps the file locked until it continues or is killed.
//
// The fence is as durable as the database. A failover to a replica that lacks the last
// commits can lower it: use synchronous replication, or elect again after a failover. So
// can a crash of a MySQL server with innodb_flush_log_at_trx_commit other than 1. There
// must be one primary: with several (Galera, group replication), row locks do not reach
// the others. In MySQL, tables without transactions (MyISAM) are not fenced.
//
// # Requests that come again
//
// [Once] keeps the result of a request by its idempotency key in the same transaction, so
// that a request that is sent again takes effect once. The rows stay. Delete those that
// are older than any client repeats a request, in an index of your own if they are many:
//
//	DELETE FROM owner_once WHERE created_at < datetime('now', '-7 days')      -- SQLite
//	DELETE FROM owner_once WHERE created_at < now() - interval '7 days'       -- Postgres
//	DELETE FROM owner_once WHERE created_at < NOW() - INTERVAL 7 DAY          -- MySQL
package sqlfence
