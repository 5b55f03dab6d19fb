package etcdstore_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var stormLength = flag.Duration("storm", 12*time.Second, "how long the storm lasts")

// All faults of members, clients and keys, at any time, with owners that own shortly and
// often.
func storm(tr *trial) {
	tr.stormy = true
	for range 3 {
		tr.contend()
	}
	for _, m := range tr.cluster.Members {
		tr.contend(m)
	}
	tr.owner()
	ctx, end := context.WithTimeout(tr.Context(), *stormLength)
	defer end()
	var lanes sync.WaitGroup
	lane := func(pause time.Duration, turn func(pause func())) {
		lanes.Go(func() {
			for ctx.Err() == nil {
				turn(func() { sleep(ctx, rand.N(pause)) })
			}
		})
	}
	tr.disturb(func() {
		lane(tr.ttl/8, tr.nag)
		lane(tr.ttl, tr.hurtMember)
		lane(tr.ttl, tr.hurtClient)
		lane(2*tr.ttl, tr.hurtKey)
		lanes.Wait()
		tr.cluster.Mend(tr)
	})
	tr.settles()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// nag makes the owner release, after long or after short.
func (tr *trial) nag(pause func()) {
	for range oneOf([]int{1, 16}) {
		pause()
	}
	for _, c := range tr.contenders {
		select {
		case c.yield <- make(chan time.Duration, 1):
		default:
		}
	}
}

func (tr *trial) hurtMember(pause func()) {
	m := oneOf(tr.cluster.Members)
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

func (tr *trial) hurtClient(pause func()) {
	c := oneOf(tr.contenders).client
	if i := slices.IndexFunc(tr.contenders, (*contender).owns); i >= 0 && rand.N(2) == 0 {
		c = tr.contenders[i].client
	}
	switch rand.N(4) {
	case 0:
		c.Cut()
	case 1:
		c.Cut(oneOf(tr.cluster.Members))
	case 2:
		c.Deafen()
	case 3:
		c.Delay(rand.N(tr.ttl / 20))
	}
	for range oneOf([]int{1, 4}) {
		pause()
	}
	if rand.N(2) == 0 {
		c.Break()
	}
	c.Heal()
	pause()
}

// hurtKey takes one of the two keys away, always the same of one owner: both are more
// than is promised.
func (tr *trial) hurtKey(pause func()) {
	pause()
	i := slices.IndexFunc(tr.contenders, (*contender).owns)
	if i < 0 {
		return
	}
	o := tr.contenders[i].present.Load()
	if o == nil {
		return
	}
	key := tr.key + []string{"", ".alive"}[o.Epoch()%2]
	ctx, cancel := context.WithTimeout(tr.Context(), tr.ttl)
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

func oneOf[T any](all []T) T { return all[rand.N(len(all))] }
