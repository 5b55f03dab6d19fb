package etcdstore_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ownerlease/owner/internal/contend"
)

var stormLength = flag.Duration("storm", 12*time.Second, "how long the storm lasts")

// All faults of members, clients and keys, at any time.
func storm(tr *trial) {
	for range 3 {
		tr.Contend()
	}
	for _, m := range tr.cluster.Members {
		tr.ContendBy(tr.connect(m))
	}
	oneMember := func(l link) { l.Client.Cut(contend.OneOf(tr.cluster.Members)) }
	tr.Storm(*stormLength, func() { tr.cluster.Mend(tr) },
		contend.Lane{Pause: tr.TTL, Turn: tr.hurtMember},
		contend.Lane{Pause: tr.TTL, Turn: tr.HurtLink(oneMember)},
		contend.Lane{Pause: 2 * tr.TTL, Turn: tr.hurtKey})
}

func (tr *trial) hurtMember(pause func()) {
	m := contend.OneOf(tr.cluster.Members)
	if rand.N(2) == 0 {
		m.Stop()
		pause()
		m.Start(tr)
	} else {
		m.Isolate()
		pause()
		m.Rejoin()
	}
	for range 3 { // an election takes its time
		pause()
	}
}

// hurtKey takes one of the two keys away, always the same of one owner: both are more
// than is promised.
func (tr *trial) hurtKey(pause func()) {
	pause()
	c := tr.Owning()
	if c == nil {
		return
	}
	o := c.Present()
	if o == nil {
		return
	}
	key := tr.Key + []string{"", ".alive"}[o.Epoch()%2]
	ctx, cancel := context.WithTimeout(tr.Context(), tr.TTL)
	defer cancel()
	its := clientv3.Compare(clientv3.CreateRevision(key), "=", int64(o.Epoch()))
	if rand.N(2) == 0 {
		_, _ = tr.admin.Txn(ctx).If(its).Then(clientv3.OpDelete(key)).Commit()
		return
	}
	got, err := tr.admin.Txn(ctx).If(its).Then(clientv3.OpGet(key)).Commit()
	if err == nil && got.Succeeded {
		_, _ = tr.admin.Revoke(ctx, clientv3.LeaseID(got.Responses[0].GetResponseRange().Kvs[0].Lease))
	}
}
