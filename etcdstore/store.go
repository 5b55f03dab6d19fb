// Package etcdstore keeps a lease in etcd, for instances on several machines.
//
//	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second})
//	…
//	o, err := owner.Join(ctx, owner.Config{Store: etcdstore.New(client, "/locks/gpu"), TTL: 10 * time.Second})
//
// # What is in etcd
//
// An owner holds two etcd leases, each of its TTL: one with the key that New was
// given, the other with that key and ".alive" behind it. Both keys hold the record as
// JSON. The lease is free when neither key exists.
//
// There are two because etcd does not distinguish an expiry from a deleted key or a
// revoked etcd lease. With one key, either would let a successor own at once, while the
// owner does not know it yet. With two, the other one stays until the owner has noticed,
// has stopped, and has released it; or until its lease has expired, which is after the
// owner's own deadline, as a renewal counts only if it has kept both alive. When an owner
// dies, both expire at the same time: another can own within its TTL and a second (etcd
// checks for expired leases twice a second), or sooner, see below. Deleting both keys at
// once breaks the guarantee: "etcdctl del --prefix" does.
//
// A request to the owner to step down is a third key, with ".HANDOVER" behind the lease's.
// It goes away with the owner's etcd lease.
//
// # When the owner's process dies
//
// The record names the owner's process, so that an instance that follows the lease on the
// same machine, in the same pid namespace, sees it die, on Linux. Such a witness revokes the
// two etcd leases under which it has read the keys: another instance owns some milliseconds
// after the death. Their ids were drawn for that one ownership, and no process is left that
// takes the lease for its own, so a revocation cannot harm an ownership, however late it is
// applied. A process that was stopped, or was cut off from etcd, has not died. What it has
// started can outlive it: see Unwitnessed. A witness needs the rights of an owner.
//
// # What it needs
//
// The TTL has to be whole seconds, as etcd's leases are, and not below the least that
// the servers grant: one and a half times their election timeout, 2 s by default. With
// authentication, the user needs to read and write the keys from the lease's key to that
// and ".alive". Authentication, TLS and endpoints are the client's matter. With several
// endpoints, the owner can continue when one member is cut off.
//
// # The clock
//
// A lease is timed by a clock of the owner's machine that keeps running while the machine
// is suspended, as etcd's servers do; see Store.Now. The expiry that others wait for is
// timed by etcd.
package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/clock"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// aliveSuffix makes the second key of the first, and handoverSuffix that of a request to
// the owner to step down. It is in capitals so that it lies between the other two, in the
// range of keys that users need rights to.
const (
	aliveSuffix    = ".alive"
	handoverSuffix = ".HANDOVER"
)

// An Option is a setting of a store that New makes.
type Option func(*store)

// EpochAbove makes the epochs of new ownerships begin above base: for a lease
// that was kept in a file, whose epochs are milliseconds of the wall clock, the last
// one that a receiver can have seen. All instances of the lease need to have the same,
// or one that is never lowered, or the epochs can fall. The default is 0.
func EpochAbove(base uint64) Option { return func(s *store) { s.above = base } }

// Unwitnessed has no other process end the ownership when this one has died, so that the
// lease is free only when it has expired: for programs whose work is in other processes,
// which outlive them, and for virtual machines that are resumed several times from one
// snapshot, whose processes cannot be told apart. By default, each standby and follower on
// the owner's machine is a witness on Linux: it sees the end of the owner's process, as
// the kernel reports it, and ends its ownership at once.
func Unwitnessed() Option { return func(s *store) { s.unwitnessed = true } }

// New returns the lease with this key in the client's etcd. It sends no request before
// the first call. The client stays the caller's: New does not close it, and it must be
// open for as long as the lease is owned or followed.
//
// The key is any that is not empty and does not end in ".alive" or ".HANDOVER"; no other
// program may use it, or it with one of these behind it. Others are refused, with
// owner.ErrInvalidConfig, by the first call.
//
// An epoch is the revision at which etcd made the keys (see EpochAbove): it grows
// over deletions and restarts, and falls where etcd's data are replaced by older ones,
// unless its revision is raised as it should be then (etcdutl snapshot restore
// --bump-revision).
func New(client *clientv3.Client, key string, opts ...Option) owner.Store {
	s := &store{client: client, key: key, alive: key + aliveSuffix, handover: key + handoverSuffix}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

type store struct {
	client     *clientv3.Client
	key, alive string // the two keys of the lease
	handover   string // the key of a request to step down
	above      uint64 // added to the revision to make the epoch

	unwitnessed bool

	mu   sync.Mutex
	last lastRead // for the hints, and for witnesses
}

// String returns the lease's name in errors and logs.
func (s *store) String() string { return "etcd key " + s.key }

// Now reads the clock: CLOCK_BOOTTIME on Linux, CLOCK_MONOTONIC_RAW on macOS, Go's own
// on Windows and elsewhere. On Linux and macOS it is a system call, some 0.3 µs.
func (s *store) Now() time.Duration { return clock.NowWithSuspend() }

// Acquire: see owner.Store. What each step leaves when it fails, or when its answer is
// lost:
//
//   - the reading: nothing;
//   - the grants: leases without keys, which block no other from owning;
//   - the transaction: perhaps the keys. Revoking the leases takes them away and,
//     as no key can be put under a lease that is gone, keeps a transaction that is still
//     on its way from being applied later. Each lease has its own id, so this
//     cannot harm another ownership, whenever it comes.
//
// What cannot be revoked expires after the TTL.
func (s *store) Acquire(ctx context.Context, claim owner.Record) (acq owner.Acquisition, err error) {
	if err := s.accepts(&claim); err != nil {
		return owner.Acquisition{}, err
	}
	p := patienceFor(claim.TTL)
	g := &grants{}
	defer func() {
		if acq.Lease == nil {
			err = s.giveBack(ctx, p, g, &claim, err)
		}
	}()
	found, granting, err := s.readAndGrant(ctx, p, &claim, g)
	if err != nil {
		return acq, err
	}
	holder, err := s.holder(found)
	switch {
	case err != nil:
		return acq, err
	case holder.InstanceID == claim.InstanceID:
		// An attempt of this instance that could not be undone: no other uses its id, and
		// it does not own.
		if err := s.revoke(ctx, p, found.leases()...); err != nil {
			return acq, s.failed(ctx, "take back what an earlier attempt has left", err)
		}
	case holder.InstanceID != "":
		return s.refused(ctx, p, g, found, holder), nil
	}
	if g.ids == nil {
		granting = s.grant(ctx, p, &claim, g)
	}
	if granting != nil {
		return acq, granting
	}
	return s.take(ctx, p, claim, g)
}

// accepts refuses what the lease cannot be kept with.
func (s *store) accepts(claim *owner.Record) error {
	if err := s.usable(); err != nil {
		return err
	}
	if claim.TTL < time.Second || claim.TTL%time.Second != 0 {
		return fmt.Errorf("%w: the TTL is %v; on etcd it has to be whole seconds", owner.ErrInvalidConfig, claim.TTL)
	}
	return nil
}

func (s *store) usable() error {
	switch {
	case s.key == "":
		return fmt.Errorf("%w: the etcd key is empty", owner.ErrInvalidConfig)
	case strings.HasSuffix(s.key, aliveSuffix):
		return fmt.Errorf("%w: the etcd key %q is the second key of the lease %q: choose another that does not end in %s",
			owner.ErrInvalidConfig, s.key, strings.TrimSuffix(s.key, aliveSuffix), aliveSuffix)
	case strings.HasSuffix(s.key, handoverSuffix):
		return fmt.Errorf("%w: the etcd key %q is that of a request to the owner of the lease %q: choose another that does not end in %s",
			owner.ErrInvalidConfig, s.key, strings.TrimSuffix(s.key, handoverSuffix), handoverSuffix)
	case s.above > maxEpochAbove:
		return fmt.Errorf("%w: EpochAbove is %d; %d is the most", owner.ErrInvalidConfig, s.above, uint64(maxEpochAbove))
	}
	return nil
}

// grants are the two etcd leases for an ownership.
type grants struct {
	ids  []clientv3.LeaseID // nil: none was asked for
	from time.Duration      // before that, which etcd counts from
	lost bool               // it is not known whether they were granted
	used bool               // keys may have been put under them
}

// giveBack revokes the etcd leases of an attempt that has not won. Without keys they keep no
// other waiting, and need no second wait for an etcd that has just not answered.
func (s *store) giveBack(ctx context.Context, p patience, g *grants, claim *owner.Record, err error) error {
	if g.lost && !g.used {
		return err
	}
	undone := s.revoke(context.WithoutCancel(ctx), p, g.ids...)
	switch {
	case undone == nil || err == nil || !g.used:
		return err
	case strings.Contains(err.Error(), undone.Error()): // for the same reason
		return fmt.Errorf("%w; what this has left may keep others waiting for %v", err, claim.TTL)
	}
	return fmt.Errorf("%w; what this has left may keep others waiting for %v: %w", err, claim.TTL, undone)
}

// take takes a lease that a read has found free.
func (s *store) take(ctx context.Context, p patience, claim owner.Record, g *grants) (acq owner.Acquisition, err error) {
	acq.From, g.used = g.from, true
	claim.AcquiredAt = time.Now()
	claim.RenewedAt = claim.AcquiredAt
	l := &lease{store: s, patience: p, keeper: keeperOf(s.client), ids: g.ids, rec: claim}
	defer func() {
		if acq.Lease == nil {
			l.keeper.leave()
		}
	}()
	found, err := s.putAndKeep(ctx, l, &acq)
	if err != nil {
		return acq, err
	}
	if l.created != 0 {
		claim.Epoch = s.above + uint64(l.created)
		return owner.Acquisition{Holder: claim, Lease: l, From: acq.From}, nil
	}
	holder, err := s.holder(found)
	if err == nil && holder.InstanceID == "" {
		err = errors.New("a bug: the lease was neither free nor held")
	}
	if err != nil {
		return acq, err
	}
	return s.refused(ctx, p, g, found, holder), nil
}

// refused names the holder, and gives back what was granted at the same time. What cannot
// be given back has no keys, and keeps no other waiting.
func (s *store) refused(ctx context.Context, p patience, g *grants, found keyPair, holder owner.Record) (acq owner.Acquisition) {
	_ = inParallel(2, func(i int) error {
		if i == 0 {
			acq.Holder = s.describe(ctx, p, found, holder).Holder
			return nil
		}
		return s.revoke(context.WithoutCancel(ctx), p, g.ids...)
	})
	g.ids = nil
	return acq
}

// put puts both keys if neither exists, and then sets the lease's revision. Otherwise it
// returns what was found. It returns the term of the answer as well.
//
// After a lost answer the request is sent again: keys that it finds under the same etcd
// leases were put by the request before.
func (s *store) put(ctx context.Context, l *lease) (found keyPair, term uint64, err error) {
	value, err := s.encode(l.rec)
	if err != nil {
		return keyPair{}, 0, fmt.Errorf("%w: the record cannot be written as JSON: %w", owner.ErrInvalidConfig, err)
	}
	absent := func(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }
	free := []clientv3.Cmp{absent(s.key), absent(s.alive)}
	resp, err := call(ctx, s, l.patience, func(ctx context.Context, r route) (*clientv3.TxnResponse, error) {
		return r.commit(ctx, free, l.puts(value), s.gets())
	})
	if err != nil {
		return keyPair{}, 0, s.failed(ctx, "put the record", err)
	}
	if resp.Succeeded {
		l.created = resp.Header.Revision
		l.putAt(l.created)
		return keyPair{}, resp.Header.RaftTerm, nil
	}
	found = keyPairIn(resp)
	if found.under(l.ids) {
		l.created = found.kvs[0].CreateRevision
		l.putAt(found.kvs[0].ModRevision)
	}
	return found, found.term, nil
}

// Look: see owner.Store. The reading is linearizable, as all are: what was applied before
// it was asked for, it shows.
func (s *store) Look(ctx context.Context) (owner.View, error) {
	if err := s.usable(); err != nil {
		return owner.View{}, err
	}
	found, err := s.read(ctx, readPatience)
	if err != nil {
		return owner.View{}, err
	}
	holder, err := s.holder(found)
	if err != nil || holder.InstanceID == "" {
		return owner.View{}, err
	}
	return s.describe(ctx, readPatience, found, holder), nil
}

// describe adds what the etcd lease shows: when the holder has renewed it last, and until
// when it lasts. Etcd returns the remaining seconds, rounded down. Where it returns none,
// the owner is known all the same.
func (s *store) describe(ctx context.Context, p patience, found keyPair, holder owner.Record) owner.View {
	view := owner.View{Holder: holder}
	if req, ours := decodeRequest(found.request); ours && req.Holder == holder.InstanceID {
		view.HandoverRequested, view.Successor = true, req.Successor
	}
	left, err := s.timeToLive(ctx, p, found.leases()[0])
	if err != nil || left.TTL < 0 {
		return view
	}
	view.Until = s.Now() + seconds(left.TTL+1) + expiryLag
	if renewed := time.Now().Add(-max(seconds(left.GrantedTTL-left.TTL), 0)); renewed.After(holder.AcquiredAt) {
		view.Holder.RenewedAt = renewed // never before the acquisition, as rounding could have it
	}
	return view
}

// expiryLag is how long an expired lease can stay until etcd checks.
const expiryLag = 500 * time.Millisecond

// holder returns the record of the instance that owns the lease, the zero Record if none
// does.
func (s *store) holder(found keyPair) (owner.Record, error) {
	holder, err := found.holder()
	if first, second := found.kvs[0], found.kvs[1]; err == nil && (first == nil) == (second == nil) {
		last := lastRead{holder: holder.InstanceID, rev: found.rev}
		// Where the two differ, another program has put one, perhaps under an etcd lease of its
		// own, which no witness may revoke.
		if first != nil && bytes.Equal(first.Value, second.Value) {
			last.process, last.leases = holder.process, found.leases()
		}
		s.saw(last)
	}
	return holder.Record, err
}

// read reads the keys, as they were at one moment.
func (s *store) read(ctx context.Context, p patience) (keyPair, error) {
	resp, err := call(ctx, s, p, func(ctx context.Context, r route) (*clientv3.TxnResponse, error) {
		return r.commit(ctx, nil, s.gets(), nil)
	})
	if err != nil {
		return keyPair{}, s.failed(ctx, "read the lease", err)
	}
	return keyPairIn(resp), nil
}

func (s *store) gets() []clientv3.Op {
	return []clientv3.Op{clientv3.OpGet(s.key), clientv3.OpGet(s.alive), clientv3.OpGet(s.handover)}
}

// grant gets the two etcd leases. Their ids are chosen here, so that one whose grant was
// not answered can be asked for again, or revoked.
func (s *store) grant(ctx context.Context, p patience, claim *owner.Record, g *grants) error {
	g.from, g.ids = s.Now(), newLeases()
	ids, ttl := g.ids, claim.TTL
	errs := inParallel(len(ids), func(i int) error {
		granted, err := call(ctx, s, p, func(ctx context.Context, r route) (*etcdserverpb.LeaseGrantResponse, error) {
			return r.leases.LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{ID: int64(ids[i]), TTL: int64(ttl / time.Second)})
		})
		least := granted.GetTTL()
		if errors.Is(err, rpctypes.ErrLeaseExist) { // an answer was lost
			least, err = s.granted(ctx, p, ids[i])
		}
		switch {
		case err != nil:
			return s.failed(ctx, fmt.Sprintf("get an etcd lease of %v", ttl), err)
		case seconds(least) != ttl:
			return fmt.Errorf("%w: the TTL is %v; this etcd grants no lease below %v", owner.ErrInvalidConfig, ttl, seconds(least))
		}
		return nil
	})
	err := foremost(errs...)
	g.lost = errors.Is(err, owner.ErrUnavailable)
	return err
}

// granted returns how many seconds an etcd lease was granted.
func (s *store) granted(ctx context.Context, p patience, id clientv3.LeaseID) (int64, error) {
	l, err := s.timeToLive(ctx, p, id)
	if err != nil {
		return 0, err
	}
	return l.GrantedTTL, nil
}

func (s *store) timeToLive(ctx context.Context, p patience, id clientv3.LeaseID) (*etcdserverpb.LeaseTimeToLiveResponse, error) {
	return call(ctx, s, p, func(ctx context.Context, r route) (*etcdserverpb.LeaseTimeToLiveResponse, error) {
		return r.leases.LeaseTimeToLive(ctx, &etcdserverpb.LeaseTimeToLiveRequest{ID: int64(id)})
	})
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// newLeases returns ids that were never used.
func newLeases() []clientv3.LeaseID {
	id := func() clientv3.LeaseID { return clientv3.LeaseID(rand.Int64N(math.MaxInt64) + 1) }
	return []clientv3.LeaseID{id(), id()}
}

// revoke ends etcd leases, and with them the keys under them. One that has ended already
// is not an error.
func (s *store) revoke(ctx context.Context, p patience, ids ...clientv3.LeaseID) error {
	return foremost(inParallel(len(ids), func(i int) error {
		_, err := call(ctx, s, p, func(ctx context.Context, r route) (*etcdserverpb.LeaseRevokeResponse, error) {
			return r.leases.LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: int64(ids[i])})
		})
		if isNotFound(err) {
			return nil
		}
		return err
	})...)
}

// inParallel calls f(0) to f(n-1) at the same time, and returns what they return.
func inParallel(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errs
}
