package sqlfence

import (
	"fmt"
	"slices"
)

// Dialect is the SQL that a database understands. The zero Dialect is none.
type Dialect int

// The databases that a Fence works with.
const (
	SQLite   Dialect = iota + 1 // 3.24 and later
	Postgres                    // 9.6 and later; a single primary
	MySQL                       // MySQL 5.7, MariaDB 10.2, and later; a single primary
)

// String is the name of the database.
func (d Dialect) String() string {
	switch d {
	case SQLite:
		return "SQLite"
	case Postgres:
		return "Postgres"
	case MySQL:
		return "MySQL"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

// Schema returns the statements that make the two tables of this package where they are
// missing. [Fence.Raise] runs them; they are for databases whose users may not make
// tables. An unknown dialect has none.
func (d Dialect) Schema() []string {
	if s := d.statements(); s != nil {
		return slices.Clone(s.schema)
	}
	return nil
}

// version is what this package writes beside each epoch. A table whose layout means
// something else is to have another.
const version = 1

// The tables, and the columns that they have.
var tables = map[string][]string{
	"owner_fence": {"epoch", "lease", "version"},
	"owner_once":  {"created_at", "done", "idempotency_key", "lease", "request_sha256", "result"},
}

// statements are what a dialect says.
type statements struct {
	dialect Dialect
	schema  []string
	// columns of the table %[1]s, each with the table's kind; no rows where there is no
	// such table.
	columns string
	kind    string // that the guarantee needs: transactions, row locks, durability

	lock string // lease, epoch: locks and finds the owner's row; "" where read locks
	read string // lease → lease, epoch, version: holds the row to the end of the transaction
	peek string // the same, without a lock

	durable string // makes the transaction durable in which the fence is raised
	turn    string // lease: has transactions that begin later wait for the one that raises
	raise   string // lease, epoch: raises the row, or makes it

	reserve string // lease, key, digest: makes the row of a key that has none
	recall  string // lease, key → digest, done, result
	record  string // result, lease, key
}

func (d Dialect) statements() *statements {
	switch d {
	case SQLite:
		return &sqlite
	case Postgres:
		return &postgres
	case MySQL:
		return &mysql
	}
	return nil
}

var sqlite = statements{
	dialect: SQLite,
	schema: []string{
		`CREATE TABLE IF NOT EXISTS main.owner_fence (lease TEXT NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID`,
		`CREATE TABLE IF NOT EXISTS main.owner_once (lease TEXT NOT NULL, idempotency_key BLOB NOT NULL, request_sha256 BLOB NOT NULL, done INTEGER NOT NULL DEFAULT 0, result BLOB, created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (lease, idempotency_key))`,
	},
	columns: `SELECT c.name, m.type FROM main.sqlite_master AS m JOIN pragma_table_info(m.name, 'main') AS c WHERE lower(m.name) = '%[1]s'`,
	kind:    "table",
	// An UPDATE takes the write lock before it looks for rows, and a snapshot that is
	// taken with it is the newest. One that finds its row needs no second statement.
	lock:    `UPDATE main.owner_fence SET epoch = epoch WHERE lease = ? AND epoch = ? AND version = 1`,
	read:    `SELECT lease, epoch, version FROM main.owner_fence WHERE lease = ?`,
	peek:    `SELECT lease, epoch, version FROM main.owner_fence WHERE lease = ?`,
	raise:   `INSERT INTO main.owner_fence (lease, epoch, version) VALUES (?, ?, 1) ON CONFLICT (lease) DO UPDATE SET epoch = excluded.epoch WHERE owner_fence.epoch < excluded.epoch AND owner_fence.version = 1`,
	reserve: `INSERT INTO main.owner_once (lease, idempotency_key, request_sha256) VALUES (?, ?, ?) ON CONFLICT (lease, idempotency_key) DO NOTHING`,
	recall:  `SELECT request_sha256, done, result FROM main.owner_once WHERE lease = ? AND idempotency_key = ?`,
	record:  `UPDATE main.owner_once SET done = 1, result = ? WHERE lease = ? AND idempotency_key = ?`,
}

var postgres = statements{
	dialect: Postgres,
	schema: []string{
		`CREATE TABLE IF NOT EXISTS owner_fence (lease text COLLATE "C" PRIMARY KEY, epoch bigint NOT NULL, version integer NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS owner_once (lease text COLLATE "C" NOT NULL, idempotency_key bytea NOT NULL, request_sha256 bytea NOT NULL, done smallint NOT NULL DEFAULT 0, result bytea, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (lease, idempotency_key))`,
	},
	columns: `SELECT a.attname::text, CASE WHEN c.relkind = 'r' AND c.relpersistence = 'p' THEN 'permanent table' ELSE 'relation of kind ' || c.relkind::text || ', persistence ' || c.relpersistence::text END FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid WHERE c.oid = to_regclass('%[1]s') AND a.attnum > 0 AND NOT a.attisdropped`,
	kind:    "permanent table",
	// FOR SHARE waits for a Raise that has begun, makes a later one wait, and reads what
	// is committed, or fails where the snapshot is older than that. (FOR KEY SHARE would
	// not keep a Raise from changing the epoch.) A row that is locked in share mode can
	// be locked so by others while a Raise waits, and it would wait for ever for an owner
	// that does not stop: the advisory lock, which is taken before the row's, has a queue.
	read:    `WITH turn AS (SELECT pg_advisory_xact_lock_shared(1869508197, hashtext($1::text))) SELECT lease, epoch, version FROM turn, owner_fence WHERE lease = $1 FOR SHARE OF owner_fence`,
	turn:    `SELECT pg_advisory_xact_lock(1869508197, hashtext($1::text))`,
	peek:    `SELECT lease, epoch, version FROM owner_fence WHERE lease = $1`,
	durable: `SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`,
	raise:   `INSERT INTO owner_fence (lease, epoch, version) VALUES ($1, $2, 1) ON CONFLICT (lease) DO UPDATE SET epoch = excluded.epoch WHERE owner_fence.epoch < excluded.epoch AND owner_fence.version = 1`,
	reserve: `INSERT INTO owner_once (lease, idempotency_key, request_sha256) VALUES ($1, $2, $3) ON CONFLICT (lease, idempotency_key) DO NOTHING`,
	recall:  `SELECT request_sha256, done, result FROM owner_once WHERE lease = $1 AND idempotency_key = $2`,
	record:  `UPDATE owner_once SET done = 1, result = $1 WHERE lease = $2 AND idempotency_key = $3`,
}

// VARBINARY compares bytes: MySQL's collations take "a" for "A" and "a ".
var mysql = statements{
	dialect: MySQL,
	schema: []string{
		`CREATE TABLE IF NOT EXISTS owner_fence (lease VARBINARY(255) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL, version INT NOT NULL) ENGINE=InnoDB`,
		`CREATE TABLE IF NOT EXISTS owner_once (lease VARBINARY(255) NOT NULL, idempotency_key VARBINARY(255) NOT NULL, request_sha256 VARBINARY(32) NOT NULL, done TINYINT NOT NULL DEFAULT 0, result MEDIUMBLOB, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (lease, idempotency_key)) ENGINE=InnoDB`,
	},
	// Each condition names the table, as MariaDB opens every table of the server otherwise.
	columns: `SELECT c.column_name, COALESCE(t.engine, t.table_type) FROM information_schema.tables AS t, information_schema.columns AS c WHERE t.table_schema = DATABASE() AND t.table_name = '%[1]s' AND c.table_schema = DATABASE() AND c.table_name = '%[1]s'`,
	kind:    "InnoDB",
	// MySQL's older words, as MariaDB has no FOR SHARE. A locking read reads what is
	// committed, whatever the isolation, and takes no snapshot: the first plain read of
	// the transaction does, which then is newer than the lock.
	read: `SELECT lease, epoch, version FROM owner_fence WHERE lease = ? LOCK IN SHARE MODE`,
	peek: `SELECT lease, epoch, version FROM owner_fence WHERE lease = ?`,
	// The assignment leaves a higher epoch, and another version, as it is.
	raise: `INSERT INTO owner_fence (lease, epoch, version) VALUES (?, ?, 1) ON DUPLICATE KEY UPDATE epoch = IF(version = 1, GREATEST(epoch, VALUES(epoch)), epoch)`,
	// An INSERT IGNORE would ignore more than a key that is there.
	reserve: `INSERT INTO owner_once (lease, idempotency_key, request_sha256) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE done = done`,
	recall:  `SELECT request_sha256, done, result FROM owner_once WHERE lease = ? AND idempotency_key = ? FOR UPDATE`,
	record:  `UPDATE owner_once SET done = 1, result = ? WHERE lease = ? AND idempotency_key = ?`,
}
