package pgstore

// format is the version of the table, in the anchor's record.
const format = "owner-lease-postgres/1"

// channel is that of the notifications. Their payload is k and the lease's key, or p and
// the name of a probe.
const channel = "owner_lease"

// A lease is a row, and is never deleted. The row with the empty key is the anchor: it says
// which server has made the table, and the longest TTL.
//
// The fill factor leaves room for the next version of each row, so that renewals leave the
// index alone.
const sqlCreate = `CREATE TABLE owner_lease (
	key text PRIMARY KEY,
	instance text NOT NULL,
	epoch bigint NOT NULL,
	beat bigint NOT NULL,
	ttl bigint NOT NULL,
	held boolean NOT NULL,
	revoked boolean NOT NULL,
	advertised bigint NOT NULL,
	handover boolean NOT NULL,
	successor text NOT NULL,
	incarnation text NOT NULL,
	renewed timestamptz NOT NULL,
	record text NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX owner_lease_instance ON owner_lease (instance)`

// A row that is deleted takes the knowledge of its owner with it. That is refused: the way
// to take a lease away is to revoke it.
const sqlKeep = `CREATE FUNCTION owner_lease_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'rows of owner_lease are not deleted: a lease could be acquired while another instance owns it'
		USING HINT = 'To take a lease away: owner-pg revoke, or UPDATE owner_lease SET revoked = true WHERE key = ...';
END $$;
CREATE TRIGGER owner_lease_keep BEFORE DELETE OR TRUNCATE ON owner_lease FOR EACH STATEMENT EXECUTE FUNCTION owner_lease_keep()`

// The incarnation of a server is its system identifier and its timeline: a promotion
// begins another. It is null on a server that does not accept writes.
const server = `server AS MATERIALIZED (
	SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE
		system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END AS incarnation
	FROM pg_control_system()
)`

const sqlAnchor = `WITH ` + server + `
INSERT INTO owner_lease SELECT '', '', 0, 0, $1::bigint, false, false, 0, false, '', server.incarnation, clock_timestamp(), '` + format + `' FROM server
ON CONFLICT (key) DO NOTHING`

// sqlLocal holds for one transaction. A lower synchronous_commit would let a server that
// crashes forget what it has answered; by a lower client_min_messages it would not say that
// a commit was not replicated.
const sqlLocal = `SELECT set_config('statement_timeout', $1::bigint::text, true), set_config('lock_timeout', $2::bigint::text, true),
	set_config('synchronous_commit', 'on', true), set_config('client_min_messages', 'warning', true)`

const columns = `l.key, l.instance, l.epoch, l.beat, l.ttl, l.held, l.revoked, l.handover, l.successor, l.incarnation, l.renewed, l.record`

// sqlRead reads leases, each with the server's incarnation and the anchor. Of a lease that
// does not exist, all columns are null.
const sqlRead = `WITH ` + server + `
SELECT server.incarnation, a.incarnation, a.ttl, a.record, p.relpersistence::text, k.key, ` + columns + `
FROM unnest($1::text[]) AS k(key) CROSS JOIN server
CROSS JOIN (SELECT relpersistence FROM pg_class WHERE oid = 'owner_lease'::regclass) p
LEFT JOIN owner_lease a ON a.key = '' LEFT JOIN owner_lease l ON l.key = k.key`

// What acquires ends with one row, or none if the lease is not as it was read. The lock of
// the row, or the key among the columns that are set, waits for transactions that are
// fenced by it: see Fence.
const (
	told = ` SELECT won.epoch, pg_notify('` + channel + `', 'k' || $1)::text FROM won`

	sqlAcquireRow = `WITH ` + server + `, seen AS MATERIALIZED (
	SELECT key FROM owner_lease
	WHERE key = $1 AND instance = $6 AND beat = $7 AND held = $8 AND incarnation = $9 FOR UPDATE
), won AS (
	UPDATE owner_lease l SET instance = $2, epoch = greatest(l.epoch + 1, $3, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
		beat = l.beat + 1, ttl = $4, held = true, revoked = false, advertised = 0, handover = false, successor = '',
		incarnation = server.incarnation, renewed = clock_timestamp(), record = $5
	FROM seen, server WHERE l.key = seen.key AND server.incarnation = $10
	RETURNING l.epoch
)` + told

	sqlAcquireNew = `WITH ` + server + `, won AS (
	INSERT INTO owner_lease AS l (key, instance, epoch, beat, ttl, held, revoked, advertised, handover, successor, incarnation, renewed, record)
	SELECT $1, $2, greatest($3, (extract(epoch FROM clock_timestamp()) * 1000)::bigint), 0, $4, true, false, 0, false, '', server.incarnation, clock_timestamp(), $5
	FROM server JOIN owner_lease a ON a.key = '' WHERE server.incarnation = $6 AND a.incarnation = $7
	ON CONFLICT (key) DO UPDATE SET beat = l.beat WHERE false -- a role that may not update could not renew, either
	RETURNING l.epoch
)` + told
)

// sqlExpire ends an ownership that has expired, if it is as it was read: as if it were
// acquired, and released at once. It does not wait for transactions that are fenced by the
// row; and none can begin any more.
const sqlExpire = `WITH ` + server + `
UPDATE owner_lease l SET held = false, beat = l.beat + 1, incarnation = server.incarnation FROM server
WHERE l.key = $1 AND l.instance = $2 AND l.beat = $3 AND l.held AND l.incarnation = $4 AND server.incarnation = $5`

// sqlStamp notes in the anchor that the server is as it is now: missing rows have been
// waited for.
const sqlStamp = `WITH ` + server + `
UPDATE owner_lease SET incarnation = server.incarnation FROM server
WHERE key = '' AND owner_lease.incarnation = $1 AND server.incarnation = $2`

// sqlRenew renews many leases. A row that is locked is left out, so that it delays no
// other. An ownership whose last renewal was answered by this server stamps its row, see
// lease.confirmed.
const sqlRenew = `WITH ` + server + `, k AS MATERIALIZED (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS k(key, instance, confirmed)
), mine AS MATERIALIZED (
	SELECT l.key, l.instance, k.confirmed FROM k JOIN owner_lease l ON l.key = k.key
	WHERE l.instance = k.instance AND l.held AND NOT l.revoked
	ORDER BY l.key FOR NO KEY UPDATE OF l SKIP LOCKED
)
UPDATE owner_lease l SET beat = l.beat + 1, renewed = clock_timestamp(),
	incarnation = CASE WHEN mine.confirmed = server.incarnation THEN server.incarnation ELSE l.incarnation END
FROM mine, server WHERE l.key = mine.key AND l.instance = mine.instance AND l.held AND NOT l.revoked
RETURNING l.instance, server.incarnation`

// What changes an ownership finds it by its instance, and so changes no other's, however
// late it is applied.
const (
	tell = ` SELECT pg_notify('` + channel + `', 'k' || key)::text FROM done`

	sqlRelease = `WITH ` + server + `, done AS (
	UPDATE owner_lease l SET held = false, beat = l.beat + 1,
		incarnation = CASE WHEN $3 = server.incarnation THEN server.incarnation ELSE l.incarnation END
	FROM server WHERE l.key = $1 AND l.instance = $2 AND l.held RETURNING l.key
)` + tell

	// Of two advertisements, the later one stays.
	sqlAdvertise = `WITH done AS (
	UPDATE owner_lease SET record = $3, advertised = $4
	WHERE key = $1 AND instance = $2 AND held AND NOT revoked AND advertised < $4 RETURNING key
)` + tell

	// A request that names a successor takes the place of one that names none.
	sqlHandover = `WITH done AS (
	UPDATE owner_lease SET handover = true, successor = $3
	WHERE key = $1 AND instance = $2 AND held AND NOT revoked AND (NOT handover OR successor = '' AND $3 <> '') RETURNING key
)` + tell

	sqlRevoke = `WITH done AS (
	UPDATE owner_lease SET revoked = true WHERE key = $1 AND instance = $2 AND held AND NOT revoked RETURNING key
)` + tell
)

// sqlFence finds the row by its owner, and keeps it. (To read the view pg_settings would take
// longer than a whole transaction.)
const sqlFence = `SELECT set_config('idle_in_transaction_session_timeout',
	CASE WHEN current_setting('idle_in_transaction_session_timeout')::interval BETWEEN interval '1 ms' AND $3::bigint * interval '1 ms'
		THEN current_setting('idle_in_transaction_session_timeout') ELSE $3::bigint::text END, true)
FROM owner_lease WHERE instance = $1 AND epoch = $2::bigint AND held AND NOT revoked FOR KEY SHARE`
