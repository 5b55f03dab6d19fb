package etcdstore

import (
	"context"
	"fmt"

	"github.com/ownerlease/owner"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Revoke takes the lease with this key away from its owner, and returns when that has
// stopped: it has released the lease, or the lease has expired. It returns the record of
// the instance that owned the lease, the zero Record if there was none. The owner is
// notified at once and Lost closes; it has what is left of its lease to stop. A successor
// may own the lease when Revoke returns: standbys acquire it as after any loss.
//
// It deletes one of the owner's two keys, as "etcdctl del KEY" does, and leaves the other
// one, which keeps the lease until the owner has stopped. A lease of which one key is
// gone already is not touched: Revoke waits for its end.
//
// An error with a record is the cause of ctx's end: the lease was revoked, and its owner
// may not have stopped yet. An error without one matches owner.ErrUnavailable where etcd
// did not answer, and then the lease may have been revoked all the same.
func Revoke(ctx context.Context, client *clientv3.Client, key string) (owner.Record, error) {
	return New(client, key).(*store).Revoke(ctx)
}

// Revoke is [Revoke] of this lease.
func (s *store) Revoke(ctx context.Context) (owner.Record, error) {
	holder, err := s.takeAway(ctx)
	if err == nil && holder.InstanceID != "" {
		err = s.untilEnded(ctx, holder)
	}
	if err != nil {
		err = fmt.Errorf("owner: revoke %v: %w", s, err)
	}
	return holder, err
}

// takeAway deletes the first key of the present ownership, and returns its owner.
//
// A deletion whose answer was lost is made again, and then finds the key gone. So the
// keys are read again where nothing was deleted.
func (s *store) takeAway(ctx context.Context) (owner.Record, error) {
	if err := s.usable(); err != nil {
		return owner.Record{}, err
	}
	var target owner.Record
	for {
		found, err := s.read(ctx, readPatience)
		if err != nil {
			return owner.Record{}, err
		}
		holder, err := s.holder(found)
		switch {
		case err != nil:
			return owner.Record{}, err
		case target.InstanceID != "" && holder.InstanceID != target.InstanceID:
			return target, nil // it owns the lease no longer
		case holder.InstanceID == "" || found.kvs[0] == nil || found.kvs[1] == nil:
			return holder, nil
		}
		target = holder
		switch deleted, err := s.deleteFirst(ctx, found); {
		case err != nil:
			return owner.Record{}, err
		case deleted:
			return target, nil
		}
	}
}

// deleteFirst deletes the first key if both are as they were found: without the second
// one, another could own before the owner has stopped. It does not end with ctx, as it
// would then not be known whether the lease was revoked; it takes little more than two seconds at most.
func (s *store) deleteFirst(ctx context.Context, found keyPair) (bool, error) {
	ctx = context.WithoutCancel(ctx)
	unchanged := func(i int, key string) clientv3.Cmp {
		return clientv3.Compare(clientv3.ModRevision(key), "=", found.kvs[i].ModRevision)
	}
	both := []clientv3.Cmp{unchanged(0, s.key), unchanged(1, s.alive)}
	resp, err := call(ctx, s, readPatience, func(ctx context.Context, r route) (*clientv3.TxnResponse, error) {
		return r.commit(ctx, both, []clientv3.Op{clientv3.OpDelete(s.key)}, nil)
	})
	if err != nil {
		return false, s.failed(ctx, "revoke the lease", err)
	}
	return resp.Succeeded, nil
}

// untilEnded returns when this holder owns the lease no longer, or the cause of ctx's end.
func (s *store) untilEnded(ctx context.Context, holder owner.Record) error {
	for now, err := range owner.WatchStore(ctx, s) {
		if err == nil && now.InstanceID != holder.InstanceID {
			return nil
		}
	}
	return context.Cause(ctx)
}
