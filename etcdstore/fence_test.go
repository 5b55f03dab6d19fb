package etcdstore_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
)

// put writes to the etcd that keeps the lease, and reports whether it has: only while
// this ownership is there. base is that of etcdstore.EpochAbove.
func put(ctx context.Context, client *clientv3.Client, lease string, base, epoch uint64, key, value string) (bool, error) {
	owned := clientv3.Compare(clientv3.CreateRevision(lease), "=", int64(epoch-base))
	resp, err := client.Txn(ctx).If(owned).Then(clientv3.OpPut(key, value)).Commit()
	return err == nil && resp.Succeeded, err
}

func TestPutOfAnOwner(t *testing.T) {
	t.Parallel()
	client := etcdtest.Start(t).Client(t)
	const base = 1 << 40
	cfg := owner.Config{Store: etcdstore.New(client, "/lease", etcdstore.EpochAbove(base)), TTL: 10 * time.Second}
	mustPut := func(o *owner.Owner, want bool) {
		t.Helper()
		if got, err := put(t.Context(), client, "/lease", base, o.Epoch(), "/doc", "text"); got != want || err != nil {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	first, err := owner.Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(first, true)
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	mustPut(first, false)
	second, err := owner.Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Release()
	mustPut(first, false)
	mustPut(second, true)
}
