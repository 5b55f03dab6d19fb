package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/clock"
)

// minTTL is the shortest TTL that a server can be expected to keep.
const minTTL = 50 * time.Millisecond

// New returns the lease with this key. It sends no request before the first call. The DB
// stays the caller's, and must be open for as long as the lease is owned or followed.
//
// The key is any text of 1 to 1,024 bytes, in UTF-8 and without NUL. Others are refused,
// with owner.ErrInvalidConfig, by the first call.
//
// An epoch is the wall clock in milliseconds, the server's or the instance's, whichever is
// later, and at least one more than the last: as in a lease file.
//
// The store is an owner.HandoverStore.
func New(db *DB, key string, opts ...Option) owner.Store {
	s := &store{db: db, key: key}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// An Option is a setting of a store that New makes.
type Option func(*store)

// Unwitnessed has no other process release the lease when this one has died, so that it is
// free only when it has expired: for programs whose work is in other processes, which
// outlive them, and for virtual machines that are resumed several times from one snapshot,
// whose processes cannot be told apart. By default, each standby and follower on the
// owner's machine is a witness on Linux: it sees the end of the owner's process, as the
// kernel reports it, and releases the lease at once.
func Unwitnessed() Option { return func(s *store) { s.unwitnessed = true } }

type store struct {
	db          *DB
	key         string
	unwitnessed bool

	mu   sync.Mutex
	seen sight
	last holder
	free *row // that the last Look has shown, if the lease was free: see try
}

// A sight is the last state of the lease that a read has shown, and when the first read
// that showed it had been answered. The lease of a holder that cannot renew, or has died,
// expires a TTL after that.
type sight struct {
	any    bool
	exists bool
	state  state
	server string
	anchor string
	at     time.Duration
}

// A holder is the instance that owns the lease, and the name of its process for witnesses.
type holder struct{ instance, process string }

// holds returns the holder that a read has shown last.
func (s *store) holds() holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// String returns the lease's name in errors and logs.
func (s *store) String() string { return "Postgres lease " + s.key }

// Now reads the clock: CLOCK_BOOTTIME on Linux, CLOCK_MONOTONIC_RAW on macOS, Go's own
// on Windows and elsewhere. On Linux and macOS it is a system call, some 0.3 µs.
func (s *store) Now() time.Duration { return clock.NowWithSuspend() }

// observe takes what a read has shown, and returns when the lease is free, as far as this
// store can know: 0 if it is. It is called after the answer.
func (s *store) observe(r *row) (free time.Duration) {
	now := s.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	is := sight{any: true, exists: r.present, state: r.state, server: r.server, at: now}
	if !r.present {
		is.anchor = r.anchor
	}
	same := s.seen
	same.at = now
	if same != is {
		s.seen = is
	}
	if r.held && s.last.instance != r.instance {
		v, _ := decode(r.record) // one that cannot be read names no process
		s.last = holder{r.instance, v.Process}
	}
	if free = s.seen.at + r.wait(); now >= free {
		return 0
	}
	return free
}

// Look: see owner.Store.
func (s *store) Look(ctx context.Context) (owner.View, error) {
	r, free, err := s.look(ctx, readTimeout)
	if err != nil {
		return owner.View{}, err
	}
	s.mu.Lock()
	if s.free = nil; free == 0 {
		s.free = &r
	}
	s.mu.Unlock()
	if free == 0 {
		return owner.View{}, nil
	}
	view := owner.View{Until: free}
	if r.held && r.handover {
		view.HandoverRequested, view.Successor = true, r.successor
	}
	view.Holder, err = r.holder()
	return view, err
}

// look reads the lease.
func (s *store) look(ctx context.Context, p requestTimeout) (r row, free time.Duration, err error) {
	if err := s.usable(); err != nil {
		return row{}, 0, err
	}
	rows, err := s.db.read(ctx, p, s.key)
	if err != nil {
		return row{}, 0, s.db.failed(ctx, "read "+s.String(), err)
	}
	return rows[0], s.observe(&rows[0]), nil
}

// foundFree returns the row that the last Look has shown, if the lease was free, for one
// attempt.
func (s *store) foundFree() *row {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.free
	s.free = nil
	return r
}

func (s *store) usable() error {
	switch {
	case s.key == "":
		return fmt.Errorf("%w: the key of the lease is empty", owner.ErrInvalidConfig)
	case len(s.key) > maxKey:
		return fmt.Errorf("%w: the key of the lease has %d bytes, and %d is the most", owner.ErrInvalidConfig, len(s.key), maxKey)
	case !utf8.ValidString(s.key) || strings.ContainsRune(s.key, 0):
		return fmt.Errorf("%w: the key of the lease, %q, is not UTF-8, or has a NUL", owner.ErrInvalidConfig, s.key)
	}
	return nil
}

// Acquire: see owner.Store. It reads the lease, and takes it with one statement if it is
// still as it was read. Where the outcome of that is not known, it releases the lease by
// the claim's own id, which no other uses; a statement that is still on its way then may
// leave a record that expires after claim.TTL.
func (s *store) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	if claim.TTL < minTTL {
		return owner.Acquisition{}, fmt.Errorf("%w: the TTL is %v, and %v is the least in Postgres", owner.ErrInvalidConfig, claim.TTL, minTTL)
	}
	for range tries {
		acq, again, err := s.try(ctx, claim)
		if !again {
			return acq, err
		}
	}
	return owner.Acquisition{}, fmt.Errorf("%w: acquire %v: others have changed it each time that it was free", owner.ErrUnavailable, s)
}

// try is one attempt. again says that the lease was free, and has changed since.
//
// A standby has just read that the lease is free, and does not read it again: however old a
// read is, the statement takes the row only as it was read.
func (s *store) try(ctx context.Context, claim owner.Record) (acq owner.Acquisition, again bool, err error) {
	p := requestTimeoutFor(claim.TTL)
	var free time.Duration
	r := s.foundFree()
	if r == nil {
		var read row
		if read, free, err = s.look(ctx, p); err != nil {
			return acq, false, err
		}
		r = &read
	}
	switch {
	case claim.TTL > r.maxTTL:
		return acq, false, fmt.Errorf("%w: the TTL is %v; the table owner_lease was set up for %v at most: see pgstore.Setup", owner.ErrInvalidConfig, claim.TTL, r.maxTTL)
	case r.held && r.instance == claim.InstanceID:
		// An attempt of this instance that could not be undone: no other uses its id, and
		// it does not own.
		if _, err := s.release(ctx, p, claim.InstanceID, ""); err != nil {
			return acq, false, s.db.failed(ctx, "take back what an earlier attempt has left in "+s.String(), err)
		}
		return acq, true, nil
	case free != 0:
		acq.Holder, err = r.holder()
		return acq, false, err
	case !r.present && !r.trusted():
		// The longest TTL has passed since this server was first seen.
		_, err := s.db.change(ctx, p, sqlStamp, r.anchor, r.server)
		if err != nil {
			err = s.db.failed(ctx, "note the failover", err)
		}
		return acq, true, err
	}
	return s.take(ctx, p, claim, r)
}

// take takes a lease that a read has found free.
func (s *store) take(ctx context.Context, p requestTimeout, claim owner.Record, r *row) (acq owner.Acquisition, again bool, err error) {
	acq.From = s.Now() // before the statement is sent
	claim.AcquiredAt = time.Now()
	claim.RenewedAt = claim.AcquiredAt
	l := &lease{store: s, timeout: p, rec: claim, validUntil: acq.From + claim.TTL, confirmed: r.server}
	text, err := encode(claim, l.process())
	if err != nil {
		return owner.Acquisition{}, false, err
	}
	sql, args := sqlAcquireNew, []any{s.key, claim.InstanceID, claim.AcquiredAt.UnixMilli(), int64(claim.TTL), text, r.server, r.anchor}
	if r.present {
		sql, args = sqlAcquireRow, append(args[:5], r.instance, r.beat, r.held, r.incarnation, r.server)
	}
	epoch, err := s.won(ctx, sql, args...)
	switch {
	case sqlState(err) == lockNotAvailable && r.present:
		// Nothing was done. A transaction of the last owner is fenced by the row, see Fence,
		// so that this one is not over yet.
		if r.held {
			_, err := s.db.change(ctx, p, sqlExpire, s.key, r.instance, r.beat, r.incarnation, r.server)
			if err != nil {
				return acq, false, s.db.failed(ctx, "end the expired ownership of "+s.String(), err)
			}
		}
		acq.Holder, err = (&row{key: r.key, state: state{instance: r.instance, held: true}, epoch: r.epoch, renewed: r.renewed, record: r.record}).holder()
		return acq, false, err
	case sqlState(err) == notSerializable:
		return owner.Acquisition{}, true, nil // nothing was done: others have changed it
	case err != nil:
		err = s.db.failed(ctx, "acquire "+s.String(), err)
		if !errors.As(err, new(connectError)) {
			err = s.undo(ctx, p, &claim, err)
		}
		return owner.Acquisition{}, false, err
	case epoch == 0:
		return owner.Acquisition{}, true, nil
	}
	claim.Epoch = epoch
	l.rec = claim
	s.db.keeper.join(l)
	return owner.Acquisition{Holder: claim, Lease: l, From: acq.From}, false, nil
}

// won sends the statement that acquires, once: its outcome counts from before it was sent.
// It returns 0 if the lease is not as it was read.
func (s *store) won(ctx context.Context, sql string, args ...any) (epoch uint64, err error) {
	return once(ctx, ctx, s.db.pooled, func(ctx context.Context, conn *pgx.Conn) (epoch uint64, err error) {
		err = exchange(ctx, conn, func(rows pgx.Rows) error { return rows.Scan(&epoch, nil) }, sql, args...)
		return epoch, err
	})
}

// undo releases what an attempt may have acquired.
func (s *store) undo(ctx context.Context, p requestTimeout, claim *owner.Record, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxRequest)
	defer cancel()
	if _, undone := s.release(ctx, p, claim.InstanceID, ""); undone != nil {
		return fmt.Errorf("%w; what this has left may keep others waiting for %v: %v", err, claim.TTL, undone)
	}
	return err
}

// release releases the lease if this instance holds it.
func (s *store) release(ctx context.Context, p requestTimeout, instance, confirmed string) (released bool, err error) {
	n, err := s.db.change(ctx, p, sqlRelease, s.key, instance, confirmed)
	return n > 0, err
}
