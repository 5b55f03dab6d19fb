package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ownerlease/owner"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A lease is one ownership: both keys, each under its etcd lease, put at one revision.
type lease struct {
	store    *store
	patience patience
	keeper   *keeper
	ids      []clientv3.LeaseID // of the key, and of the one with .alive
	rec      owner.Record       // as it was put first: without its epoch
	created  int64              // the revision at which both keys were put first
	rev      int64              // the revision at which both keys were put last
	tried    []string           // values that were put without an answer since
}

// puts are the operations that put both keys, each under its etcd lease.
func (l *lease) puts(value string) []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpPut(l.store.key, value, clientv3.WithLease(l.ids[0])),
		clientv3.OpPut(l.store.alive, value, clientv3.WithLease(l.ids[1])),
	}
}

// Renew: see owner.Lease. It keeps both etcd leases alive, and reads whether both
// keys are as they were put. It writes nothing: a full etcd costs no ownership.
//
// nil: each of the three succeeded at some moment after the call began, and no keep-alive
// in an older term than the read. A key that exists is under its etcd lease, and the
// lease was kept then, so neither key expires before at + TTL.
//
// The terms matter, as a member that was cut off or stopped still takes itself for the
// leader for a while, and reports that it has kept a lease which expires elsewhere: etcd
// asks no other member first. The read is answered by a leader that had a majority after
// the call began. So a leader of its term or later that keeps the lease passes it on to
// later leaders.
//
// owner.ErrRevoked, owner.ErrTakenOver: a key is missing or another, and cannot be put
// back as it was. Only the read says that: etcd leases that have ended have taken their
// keys with them.
//
// Any other error: it may be that both etcd leases were kept alive, or one. Nothing is
// lost by that, as the caller has not moved its deadline.
func (l *lease) Renew(ctx context.Context, _ time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var lost error
	terms := make([]uint64, len(l.ids)+1) // in which each was answered, the reading last
	errs := inParallel(len(terms), func(i int) (err error) {
		if i < len(l.ids) {
			terms[i], err = l.keepAlive(ctx, l.ids[i])
			return err
		}
		terms[i], err = l.check(ctx)
		if isLoss(err) {
			lost = err
			cancel() // the rest does not matter any more
		}
		return err
	})
	if lost != nil {
		return lost
	}
	err := foremost(errs...)
	if slices.ContainsFunc(errs, isNotFound) { // its key has gone with it, perhaps after it was read
		if _, err := l.check(ctx); err != nil {
			return err
		}
	}
	if err == nil && slices.Min(terms) < terms[len(l.ids)] {
		return fmt.Errorf("%w: keep the lease alive at %v: a leader has said that it did, and another leads", owner.ErrUnavailable, l.store)
	}
	return err
}

func isLoss(err error) bool {
	return errors.Is(err, owner.ErrRevoked) || errors.Is(err, owner.ErrTakenOver)
}

// check reads whether both keys are as they were put, and returns the term of the read.
func (l *lease) check(ctx context.Context) (term uint64, err error) {
	found, err := l.store.read(ctx, l.patience)
	if err != nil {
		return 0, err
	}
	if l.adopt(found) {
		return found.term, nil
	}
	return found.term, l.lost(found)
}

// lost says what has become of the keys, nil if they are as they were put.
func (l *lease) lost(found keyPair) (err error) {
	for i, kv := range found.kvs {
		key := []string{l.store.key, l.store.alive}[i]
		switch {
		case kv == nil:
			err = fmt.Errorf("%w: the etcd key %q was deleted, or its lease revoked", owner.ErrRevoked, key)
		case kv.ModRevision != l.rev && kv.CreateRevision == l.created:
			err = fmt.Errorf("%w: the etcd key %q was written to", owner.ErrRevoked, key)
		case kv.ModRevision != l.rev:
			if rec, err := decode(kv); err == nil {
				return fmt.Errorf("%w: instance %s, pid %d on %s, epoch %d", owner.ErrTakenOver, rec.InstanceID, rec.PID, rec.Host, rec.Epoch)
			}
			err = fmt.Errorf("%w: the etcd key %q was deleted, and something else is there", owner.ErrRevoked, key)
		}
	}
	return err
}

// Release: see owner.Lease. It makes three requests at the same time, none of which harms
// another owner however late it comes: one transaction deletes both keys, each only if it
// is as it was put, as it may be another owner's by now; and both etcd leases are
// revoked, each of which takes its own key with it. After either, a successor can own.
//
// An error: neither is known to be done, and the keys may stay until their leases have
// expired.
func (l *lease) Release(ctx context.Context) error {
	defer l.keeper.leave()
	s := l.store
	ours := func(key string) clientv3.Op {
		return clientv3.OpTxn(
			[]clientv3.Cmp{l.unchanged(key)},
			[]clientv3.Op{clientv3.OpDelete(key)}, nil)
	}
	deletions := []clientv3.Op{ours(s.key), ours(s.alive)}
	errs := inParallel(2, func(i int) error {
		if i == 1 {
			return s.revoke(ctx, l.patience, l.ids...)
		}
		_, err := call(ctx, s, l.patience, func(ctx context.Context, r route) (*clientv3.TxnResponse, error) {
			return r.commit(ctx, nil, deletions, nil)
		})
		if err == nil && len(l.tried) > 0 {
			err = errors.New("the keys may be as an advertisement has put them whose answer was lost")
		}
		return err
	})
	if deleted, revoked := errs[0], errs[1]; deleted != nil && revoked != nil {
		return s.failed(ctx, "release the lease", deleted)
	}
	return nil
}

// keepAlive makes one of the etcd leases last for another TTL, and returns the term of
// the answer.
func (l *lease) keepAlive(ctx context.Context, id clientv3.LeaseID) (term uint64, err error) {
	term, err = l.keeper.keepAlive(ctx, l.store, l.patience, id)
	if err != nil {
		return 0, l.store.failed(ctx, "keep the lease alive", err)
	}
	return term, nil
}
