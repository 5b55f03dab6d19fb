package pgstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ownerlease/owner"
)

// maxRecord bounds the record, which is rewritten by each renewal that does not fit its
// page. maxKey is what an index surely takes.
const (
	maxRecord = 64 << 10
	maxKey    = 1024
)

// A row is a lease as a read has shown it.
type row struct {
	key     string
	server  string        // the incarnation of the server that was read
	anchor  string        // the incarnation in the anchor
	maxTTL  time.Duration // of the anchor
	present bool          // the lease was owned once; otherwise, the rest is zero

	state
	epoch   uint64
	ttl     time.Duration
	revoked bool
	renewed time.Time
	record  string

	handover  bool   // the owner is asked to step down
	successor string // for which standby, "" for any
}

// A state is what changes with each renewal, acquisition and release.
type state struct {
	instance    string
	beat        int64
	held        bool
	incarnation string
}

// scanRow reads a row of sqlRead.
func scanRow(rows pgx.Rows) (row, error) {
	var r row
	var server, anchor, table, key, instance, successor, incarnation, record *string
	var maxTTL, epoch, beat, ttl *int64
	var held, revoked, handover *bool
	var renewed *time.Time
	var persistence string
	if err := rows.Scan(&server, &anchor, &maxTTL, &table, &persistence, &r.key,
		&key, &instance, &epoch, &beat, &ttl, &held, &revoked, &handover, &successor, &incarnation, &renewed, &record); err != nil {
		return r, err
	}
	switch {
	case server == nil:
		return r, errReadOnly
	case table == nil:
		return r, fmt.Errorf("%w: %w: run owner-pg setup, or call pgstore.Setup", owner.ErrInvalidConfig, errEmpty)
	case *table != format:
		return r, fmt.Errorf("%w: the table owner_lease has the format %q, and this program knows %q", owner.ErrInvalidConfig, *table, format)
	case persistence != "p":
		return r, fmt.Errorf("%w: the table owner_lease is UNLOGGED or temporary, so that a crash of the server empties it: ALTER TABLE owner_lease SET LOGGED", owner.ErrInvalidConfig)
	}
	r.server, r.anchor, r.maxTTL = *server, *anchor, time.Duration(*maxTTL)
	if key != nil {
		r.present = true
		r.state = state{*instance, *beat, *held, *incarnation}
		r.handover, r.successor = *handover, *successor
		r.epoch, r.ttl, r.revoked, r.renewed, r.record = uint64(*epoch), time.Duration(*ttl), *revoked, *renewed, *record
	}
	return r, nil
}

// trusted reports whether the row is known to be the last that was committed: a server that
// was promoted, or restored, may lack what another has committed.
func (r *row) trusted() bool {
	if r.present {
		return r.incarnation == r.server
	}
	return r.anchor == r.server
}

// wait is how long the row has to stay as it is until the lease is free.
func (r *row) wait() time.Duration {
	switch {
	case !r.trusted():
		return max(r.ttl, r.maxTTL)
	case r.held:
		return r.ttl
	}
	return 0
}

// unknownHolder is the InstanceID of the holder of a lease that may be owned by an instance
// whose record was lost in a failover.
const unknownHolder = "00000000-0000-0000-0000-000000000000"

// holder returns the record of the instance that owns the lease, or may.
func (r *row) holder() (owner.Record, error) {
	if !r.held {
		return owner.Record{InstanceID: unknownHolder}, nil
	}
	v, err := decode(r.record)
	if err != nil || v.InstanceID != r.instance {
		return owner.Record{}, fmt.Errorf("%w: the record of the lease %q in the table owner_lease is not one of a lease (%v); it is left as it is",
			owner.ErrCorruptRecord, r.key, err)
	}
	rec := v.Record
	rec.Epoch, rec.RenewedAt = r.epoch, r.renewed
	return rec, nil
}

// A value is the record's JSON, with what other instances need to know of the owner's
// process: see witness.
type value struct {
	owner.Record
	Process string
}

type process struct {
	Process string `json:"process,omitempty"`
}

// encode returns the record's column: one object. In JSON, a NUL is written as six
// characters; Postgres stores no NUL.
func encode(rec owner.Record, proc string) (string, error) {
	r, err := json.Marshal(rec)
	if err == nil && proc != "" {
		var p []byte
		p, err = json.Marshal(process{proc})
		if err == nil {
			p[len(p)-1] = ','
			r = append(p, r[1:]...)
		}
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: the record cannot be written as JSON: %w", owner.ErrInvalidConfig, err)
	case len(r) > maxRecord:
		return "", fmt.Errorf("%w: metadata too large: the record would have %d bytes, and %d is the most", owner.ErrInvalidConfig, len(r), maxRecord)
	}
	return string(r), nil
}

func decode(text string) (value, error) {
	var v value
	var p process
	err := json.Unmarshal([]byte(text), &v.Record)
	if err == nil {
		err = json.Unmarshal([]byte(text), &p)
	}
	v.Process = p.Process
	return v, err
}
