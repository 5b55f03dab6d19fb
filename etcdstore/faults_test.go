package etcdstore_test

import (
	"errors"
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
		tr.Judge()
	})
}

// The TTLs are short where the owner is to lose the lease, and long where a busy machine
// must not cost it.
var ofKeys = []scenario{
	{"handover", 10 * time.Second, func(tr *trial) { tr.Handover(10) }},
	{"an owner stays", 6 * time.Second, func(tr *trial) { tr.Stays() }},
	{"the first lease is revoked", 8 * time.Second, taken(revoke, "", true)},
	{"the second lease is revoked", 8 * time.Second, taken(revoke, ".alive", true)},
	{"the first key is deleted", 8 * time.Second, taken(remove, "", true)},
	{"the second key is deleted", 8 * time.Second, taken(remove, ".alive", true)},
	{"the first key is deleted, unheard", 6 * time.Second, taken(remove, "", false)},
	{"the second key is deleted, unheard", 6 * time.Second, taken(remove, ".alive", false)},
	{"the owner's requests do not arrive", 4 * time.Second, func(tr *trial) { tr.RequestsHeldBack() }},
	{"the owner gets no answers", 4 * time.Second, func(tr *trial) { tr.AnswersHeldBack() }},
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

// A TTL counts from before it was asked for, however late the answer comes.
func hearsLate(tr *trial) {
	var seen sync.Map // when the key was, by its revision
	watch := tr.admin.Watch(tr.Context(), tr.Key, clientv3.WithCreatedNotify())
	<-watch
	go func() {
		for resp := range watch {
			for _, e := range resp.Events {
				seen.Store(uint64(e.Kv.CreateRevision), tr.Now())
			}
		}
	}()
	a := tr.Contend()
	a.Link.Delay(tr.TTL / 60)
	tr.Owner()
	etcdtest.Await(tr, "the key", func() bool {
		o := a.Present()
		if o == nil {
			return false // it has taken too long
		}
		at, ok := seen.Load(o.Epoch())
		if from := a.Spy.First(); ok && from > at.(time.Duration) {
			tr.Errorf("the first TTL counts from %v after the key was there", from-at.(time.Duration))
		}
		return ok
	})
	tr.Renews(a, 3)
}

// A network that comes back in time costs nothing.
func cutOffForAMoment(tr *trial) {
	tr.CutOffForAMoment(func(a *contender) {
		failed := a.Spy.Failed()
		etcdtest.Await(tr, "a renewal that fails", func() bool { return a.Spy.Failed() > failed })
	})
}

// Nor does a member that does not answer, while the others do.
func linkCut(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	a.Link.Client.Cut(tr.cluster.Members[0])
	tr.Renews(a, 5)
}

// One of the two keys is deleted. The others know it before the owner does, and must wait
// all the same: for the owner's release if it notices, else for its expiry.
func taken(take func(tr *trial, key string), leg string, heard bool) func(*trial) {
	return func(tr *trial) {
		a, others := tr.OwnerAndOthers()
		a.Link.Cut()
		take(tr, tr.Key+leg)
		tr.Looked(others...)
		reason := owner.ErrExpired
		if heard {
			a.Link.Heal()
			reason = owner.ErrRevoked
		}
		if lost := a.Loses(); !errors.Is(lost, reason) {
			tr.Errorf("lost for another reason than %q: %v", reason, lost)
		}
		tr.Owner()
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
	a, others := tr.OwnerAndOthers()
	b := others[0]
	b.Link.Cut()
	b.Link.Break() // the watch is begun again, from where it was
	for range 2 {
		put, err := tr.admin.Put(tr.Context(), tr.Key+"/neighbour", "")
		must(tr, err)
		_, err = tr.admin.Compact(tr.Context(), put.Header.Revision, clientv3.WithCompactPhysical())
		must(tr, err)
	}
	before := b.Spy.Hints()
	b.Link.Heal()
	etcdtest.Await(tr, "a hint that some may have been missed", func() bool { return b.Spy.Hints() > before })
	before = b.Spy.Hints()
	a.Releases()
	etcdtest.Await(tr, "a hint of the release", func() bool { return b.Spy.Hints() > before })
	tr.Owner()
}

func leaderKilled(tr *trial) {
	for range 3 {
		tr.Contend()
	}
	tr.Owner()
	leader := tr.cluster.Leader(tr)
	tr.Disturb(func() {
		leader.Stop()
		tr.Settles()
	})
	leader.Start(tr)
	tr.Settles()
}

func memberKilled(tr *trial) {
	leader := tr.cluster.Leader(tr)
	a := tr.ContendBy(tr.connect(leader))
	tr.Owner()
	tr.Looked(tr.Contend(), tr.Contend())
	tr.Disturb(func() {
		leader.Stop()
		a.Loses()
		tr.Settles()
	})
	leader.Start(tr)
	tr.Settles()
}

// A member that is cut off does not leave its owner in the belief, not even if it takes
// itself for the leader.
func memberCutOff(which func(*etcdtest.Cluster, testing.TB) *etcdtest.Member) func(*trial) {
	return func(tr *trial) {
		m := which(tr.cluster, tr)
		a := tr.ContendBy(tr.connect(m))
		tr.Owner()
		others := tr.cluster.Others(m)
		tr.Looked(tr.ContendBy(tr.connect(others...)), tr.ContendBy(tr.connect(others...)))
		tr.Disturb(func() {
			m.Isolate()
			if lost := a.Loses(); !errors.Is(lost, owner.ErrExpired) {
				tr.Errorf("lost for another reason: %v", lost)
			}
			tr.Settles()
		})
		m.Rejoin()
		tr.Looked(a)
		tr.Settles()
	}
}

// Who has other members as well may keep the lease.
func leaderCutOff(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	m := tr.cluster.Leader(tr)
	tr.Disturb(func() {
		m.Isolate()
		etcdtest.Await(tr, "another leader", func() bool { return tr.cluster.Leader(tr) != m })
		if by := tr.Settles(); by == a {
			tr.Log("the owner has kept the lease")
		}
	})
	m.Rejoin()
	tr.Settles()
}

func stoppedForLong(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	tr.Disturb(func() {
		tr.cluster.Stop()
		a.Loses()
		etcdtest.Await(tr, "the end of the lease", func() bool { return tr.Now() > a.Spy.Expires() })
		tr.cluster.Start(tr)
		tr.cluster.Leader(tr)
	})
	tr.Settles()
}

// A cluster that is back in time costs nothing.
func stoppedForAMoment(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	tr.Disturb(func() {
		began := tr.Now()
		tr.cluster.Stop()
		tr.cluster.Start(tr)
		_, err := tr.admin.Get(tr.Context(), tr.Key)
		must(tr, err)
		took := tr.Now() - began
		by := tr.Settles()
		tr.Logf("no member answered for %v; the owner has kept the lease: %v", took, by == a)
		if by != a && took < tr.TTL/4 {
			tr.Error("the owner has lost the lease")
		}
	})
}

// An owner renews while etcd is full, and leaves. No successor owns until there is room.
func quotaFull(tr *trial) {
	a, others := tr.OwnerAndOthers()
	tr.Disturb(func() {
		etcdtest.Fill(tr, tr.admin.Client)
		tr.Renews(a, 5)
		a.Releases()
		for _, c := range others {
			failed := c.Spy.Failed()
			etcdtest.Await(tr, "attempts that fail", func() bool { return c.Spy.Failed() > failed+2 })
			if c.Present() != nil {
				tr.Errorf("%s owns the lease, with no room for its record", c.Name)
			}
		}
		etcdtest.MakeRoom(tr, tr.admin.Client)
	})
	tr.Settles()
}
