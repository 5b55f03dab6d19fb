package etcdstore_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
)

// quota is what the cluster may keep, little enough to be filled by a test.
const quota = 8 << 20

// Faults of a cluster and of its clients, each with several contenders. What they have
// seen is judged as in the torture run: never two valid owners, epochs that only grow,
// the margin kept, and an owner when it is over.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three members, and takes a minute: run it without -short")
	}
	cluster := etcdtest.StartCluster(t, etcdtest.Quota(quota))
	// Those that harm no other test, some at a time: they mostly wait.
	t.Run("keys", func(t *testing.T) {
		var all errgroup.Group
		all.SetLimit(4)
		for _, s := range ofKeys {
			all.Go(func() error {
				s.run(t, cluster)
				return nil
			})
		}
		_ = all.Wait()
	})
	t.Run("members", func(t *testing.T) {
		for _, s := range ofMembers {
			s.run(t, cluster)
			cluster.Mend(t)
		}
	})
}

// A scenario is a fault, and what must come of it.
type scenario struct {
	name string
	ttl  time.Duration
	play func(*trial)
}

func (s *scenario) run(t *testing.T, cluster *etcdtest.Cluster) {
	t.Run(s.name, func(t *testing.T) {
		tr := newTrial(t, cluster, s.ttl)
		s.play(tr)
		tr.judge()
	})
}

// The TTLs are short where the owner is to lose the lease, and long where a busy machine
// must not cost it.
var ofKeys = []scenario{
	{"handover", 10 * time.Second, handover},
	{"an owner stays", 6 * time.Second, stays},
	{"the first lease is revoked", 8 * time.Second, taken(revoke, "", true)},
	{"the second lease is revoked", 8 * time.Second, taken(revoke, ".alive", true)},
	{"the first key is deleted", 8 * time.Second, taken(remove, "", true)},
	{"the second key is deleted", 8 * time.Second, taken(remove, ".alive", true)},
	{"the first key is deleted, unheard", 6 * time.Second, taken(remove, "", false)},
	{"the second key is deleted, unheard", 6 * time.Second, taken(remove, ".alive", false)},
	{"the owner's requests do not arrive", 4 * time.Second, heardNoMore},
	{"the owner gets no answers", 4 * time.Second, hearsNoMore},
	{"the owner gets late answers", 12 * time.Second, hearsLate},
	{"the owner is cut off for a moment", 12 * time.Second, cutOffForAMoment},
	{"one of the owner's links is cut", 12 * time.Second, linkCut},
	{"two of the owner's links are cut", 12 * time.Second, twoLinksCut},
	{"the owner is far away", 8 * time.Second, farAway},
	{"what a watch has missed is compacted", 12 * time.Second, compacted},
}

var ofMembers = []scenario{
	{"the leader is killed", 3 * time.Second, leaderKilled},
	{"the leader is killed, the owner's only member", 2 * time.Second, memberKilled},
	{"the leader is cut off, the owner's only member", 3 * time.Second, memberCutOff((*etcdtest.Cluster).Leader)},
	{"a follower is cut off, the owner's only member", 3 * time.Second, memberCutOff((*etcdtest.Cluster).Follower)},
	{"the leader is cut off, one of the owner's members", 4 * time.Second, leaderCutOff},
	{"all are stopped for long", 2 * time.Second, stoppedForLong},
	{"all are stopped for a moment", 12 * time.Second, stoppedForAMoment},
	{"the quota is full", 12 * time.Second, quotaFull},
	{"a storm", 2 * time.Second, storm},
}

// ownerAndOthers has one contender own, which does not come back when it has lost the
// lease, and two standbys.
func ownerAndOthers(tr *trial) (a *contender, others []*contender) {
	a = tr.contend()
	a.once.Store(true)
	tr.owner()
	others = []*contender{tr.contend(), tr.contend()}
	tr.looked(others...)
	return a, others
}

// From one to the other, without a fault. The one that has released may be quicker than
// the other, and own again.
func handover(tr *trial) {
	tr.contend()
	tr.contend()
	var took []time.Duration
	for range 10 {
		a := tr.owner()
		tr.looked(tr.contenders...)
		began := a.releases()
		if tr.owner() != a {
			took = append(took, tr.now()-began)
		}
	}
	slices.Sort(took)
	tr.Logf("handed over %d times, in %v", len(took), took)
}

// For longer than a TTL, by its renewals.
func stays(tr *trial) {
	a, _ := ownerAndOthers(tr)
	tr.renews(a, 16)
}

// Others see the same of an owner that crashes, while this one continues until its
// deadline.
func heardNoMore(tr *trial) {
	a, _ := ownerAndOthers(tr)
	a.client.Cut()
	cut := tr.now()
	if lost := a.loses(); !errors.Is(lost, owner.ErrExpired) {
		tr.Errorf("lost for another reason: %v", lost)
	}
	by := tr.owner()
	tr.Logf("cut off %v after the last renewal, with a TTL of %v; another owns %v later",
		cut-(a.spy.expires()-tr.ttl), tr.ttl, time.Duration(by.spy.elected.Load())-cut)
	// What it has sent is not lost, and is applied now: to release the lease, for one.
	a.client.Heal()
	tr.renews(by, 3)
}

// Its renewals are applied, as far as it comes with them.
func hearsNoMore(tr *trial) {
	a, _ := ownerAndOthers(tr)
	a.client.Deafen()
	if lost := a.loses(); !errors.Is(lost, owner.ErrExpired) {
		tr.Errorf("lost for another reason: %v", lost)
	}
	by := tr.owner()
	a.client.Heal()
	tr.renews(by, 3)
}

// A TTL counts from before it was asked for, however late the answer comes.
func hearsLate(tr *trial) {
	var seen sync.Map // when the key was, by its revision
	watch := tr.admin.Watch(tr.Context(), tr.key, clientv3.WithCreatedNotify())
	<-watch
	go func() {
		for resp := range watch {
			for _, e := range resp.Events {
				seen.Store(uint64(e.Kv.CreateRevision), tr.now())
			}
		}
	}()
	a := tr.contend()
	a.client.Delay(tr.ttl / 60)
	tr.owner()
	etcdtest.Await(tr, "the key", func() bool {
		o := a.present.Load()
		if o == nil {
			return false // it has taken too long
		}
		at, ok := seen.Load(o.Epoch())
		if from := time.Duration(a.spy.first.Load()); ok && from > at.(time.Duration) {
			tr.Errorf("the first TTL counts from %v after the key was there", from-at.(time.Duration))
		}
		return ok
	})
	tr.renews(a, 3)
}

// A network that comes back in time costs nothing.
func cutOffForAMoment(tr *trial) {
	a, _ := ownerAndOthers(tr)
	failed := a.spy.failed.Load()
	a.client.Cut()
	etcdtest.Await(tr, "a renewal that fails", func() bool { return a.spy.failed.Load() > failed })
	a.client.Heal()
	tr.renews(a, 3)
}

// Nor does a member that does not answer, while the others do.
func linkCut(tr *trial) {
	a, _ := ownerAndOthers(tr)
	a.client.Cut(tr.cluster.Members[0])
	tr.renews(a, 5)
}

// One of the two keys is deleted. The others know it before the owner does, and must wait
// all the same: for the owner's release if it notices, else for its expiry.
func taken(take func(tr *trial, key string), leg string, heard bool) func(*trial) {
	return func(tr *trial) {
		a, others := ownerAndOthers(tr)
		a.client.Cut()
		take(tr, tr.key+leg)
		tr.looked(others...)
		reason := owner.ErrExpired
		if heard {
			a.client.Heal()
			reason = owner.ErrRevoked
		}
		if lost := a.loses(); !errors.Is(lost, reason) {
			tr.Errorf("lost for another reason than %q: %v", reason, lost)
		}
		tr.owner()
	}
}

func revoke(tr *trial, key string) {
	tr.Helper()
	got, err := tr.admin.Get(tr.Context(), key)
	must(tr, err)
	if len(got.Kvs) == 0 {
		tr.Fatalf("there is no key %s", key)
	}
	_, err = tr.admin.Revoke(tr.Context(), clientv3.LeaseID(got.Kvs[0].Lease))
	must(tr, err)
}

func remove(tr *trial, key string) {
	tr.Helper()
	gone, err := tr.admin.Delete(tr.Context(), key)
	must(tr, err)
	if gone.Deleted != 1 {
		tr.Fatalf("there is no key %s", key)
	}
}

// Hints continue where missed ones can no longer be read.
func compacted(tr *trial) {
	a, others := ownerAndOthers(tr)
	b := others[0]
	b.client.Cut()
	b.client.Break() // the watch is begun again, from where it was
	for range 2 {
		put, err := tr.admin.Put(tr.Context(), tr.key+"/neighbour", "")
		must(tr, err)
		_, err = tr.admin.Compact(tr.Context(), put.Header.Revision, clientv3.WithCompactPhysical())
		must(tr, err)
	}
	before := b.spy.hints.Load()
	b.client.Heal()
	etcdtest.Await(tr, "a hint that some may have been missed", func() bool { return b.spy.hints.Load() > before })
	before = b.spy.hints.Load()
	a.releases()
	etcdtest.Await(tr, "a hint of the release", func() bool { return b.spy.hints.Load() > before })
	tr.owner()
}

func leaderKilled(tr *trial) {
	for range 3 {
		tr.contend()
	}
	tr.owner()
	leader := tr.cluster.Leader(tr)
	tr.disturb(func() {
		leader.Stop()
		tr.settles()
	})
	leader.Start(tr)
	tr.settles()
}

func memberKilled(tr *trial) {
	leader := tr.cluster.Leader(tr)
	a := tr.contend(leader)
	tr.owner()
	tr.looked(tr.contend(), tr.contend())
	tr.disturb(func() {
		leader.Stop()
		a.loses()
		tr.settles()
	})
	leader.Start(tr)
	tr.settles()
}

// A member that is cut off does not leave its owner in the belief, not even if it takes
// itself for the leader.
func memberCutOff(which func(*etcdtest.Cluster, testing.TB) *etcdtest.Member) func(*trial) {
	return func(tr *trial) {
		m := which(tr.cluster, tr)
		a := tr.contend(m)
		tr.owner()
		others := tr.cluster.Others(m)
		tr.looked(tr.contend(others...), tr.contend(others...))
		tr.disturb(func() {
			m.Isolate()
			if lost := a.loses(); !errors.Is(lost, owner.ErrExpired) {
				tr.Errorf("lost for another reason: %v", lost)
			}
			tr.settles()
		})
		m.Rejoin()
		tr.looked(a)
		tr.settles()
	}
}

// Who has other members as well may keep the lease.
func leaderCutOff(tr *trial) {
	a, _ := ownerAndOthers(tr)
	m := tr.cluster.Leader(tr)
	tr.disturb(func() {
		m.Isolate()
		etcdtest.Await(tr, "another leader", func() bool { return tr.cluster.Leader(tr) != m })
		if by := tr.settles(); by == a {
			tr.Log("the owner has kept the lease")
		}
	})
	m.Rejoin()
	tr.settles()
}

func stoppedForLong(tr *trial) {
	a, _ := ownerAndOthers(tr)
	tr.disturb(func() {
		tr.cluster.Stop()
		a.loses()
		etcdtest.Await(tr, "the end of the lease", func() bool { return tr.now() > a.spy.expires() })
		tr.cluster.Start(tr)
		tr.cluster.Leader(tr)
	})
	tr.settles()
}

// A cluster that is back in time costs nothing.
func stoppedForAMoment(tr *trial) {
	a, _ := ownerAndOthers(tr)
	tr.disturb(func() {
		began := tr.now()
		tr.cluster.Stop()
		tr.cluster.Start(tr)
		_, err := tr.admin.Get(tr.Context(), tr.key)
		must(tr, err)
		took := tr.now() - began
		by := tr.settles()
		tr.Logf("no member answered for %v; the owner has kept the lease: %v", took, by == a)
		if by != a && took < tr.ttl/4 {
			tr.Error("the owner has lost the lease")
		}
	})
}

// An owner renews while etcd is full, and leaves. No successor owns until there is room.
func quotaFull(tr *trial) {
	a, others := ownerAndOthers(tr)
	tr.disturb(func() {
		etcdtest.Fill(tr, tr.admin.Client)
		tr.renews(a, 5)
		a.releases()
		for _, c := range others {
			failed := c.spy.failed.Load()
			etcdtest.Await(tr, "attempts that fail", func() bool { return c.spy.failed.Load() > failed+2 })
			if c.present.Load() != nil {
				tr.Errorf("%s owns the lease, with no room for its record", c.name)
			}
		}
		etcdtest.MakeRoom(tr, tr.admin.Client)
	})
	tr.settles()
}
