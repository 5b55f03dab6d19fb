package etcdstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/ownerlease/owner"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Advertise: see owner.Lease. It puts both keys again, at one revision and under their
// etcd leases, each only if it is as this lease has put it last. So a request that is
// applied late changes nothing that was put after it, by this owner or by another.
//
// An answer that was lost leaves open which value is there. Whichever of those that were
// tried it is, the next request or renewal takes it for the lease's own.
func (l *lease) Advertise(ctx context.Context, meta map[string]string) error {
	s := l.store
	rec := l.rec
	rec.Meta = meta
	value, err := s.encode(rec)
	if err != nil {
		return fmt.Errorf("%w: the record cannot be written as JSON: %w", owner.ErrInvalidConfig, err)
	}
	l.tried = append(l.tried, value)
	for {
		// Not compared with what is put last when a request is sent: that may be later.
		unchanged := []clientv3.Cmp{l.unchanged(s.key), l.unchanged(s.alive)}
		resp, err := call(ctx, s, l.patience, func(ctx context.Context, r route) (*clientv3.TxnResponse, error) {
			return r.commit(ctx, unchanged, l.puts(value), s.gets())
		})
		if err != nil {
			return s.failed(ctx, "put the record", err)
		}
		if resp.Succeeded {
			l.putAt(resp.Header.Revision)
			return nil
		}
		found := keyPairIn(resp)
		if !l.adopt(found) {
			return l.lost(found)
		}
		if string(found.kvs[0].Value) == value {
			return nil
		}
		l.tried = append(l.tried, value)
	}
}

// unchanged compares a key with what this lease has put last.
func (l *lease) unchanged(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", l.rev)
}

// putAt notes the revision at which both keys were put. Older requests compare with the one
// before, and are applied no more.
func (l *lease) putAt(rev int64) {
	l.rev, l.tried = rev, nil
	l.store.saw(lastRead{holder: l.rec.InstanceID, rev: rev})
}

// adopt reports whether the keys were put by a request of this lease whose answer was lost.
func (l *lease) adopt(found keyPair) bool {
	first, second := found.kvs[0], found.kvs[1]
	if !found.under(l.ids) || first.ModRevision != second.ModRevision || !slices.Contains(l.tried, string(first.Value)) {
		return false
	}
	l.putAt(first.ModRevision)
	return true
}
