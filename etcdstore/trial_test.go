package etcdstore_test

import (
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"github.com/ownerlease/owner/internal/contend"
)

// A trial is one lease in a cluster, and its contenders.
type trial struct {
	*contend.Trial[link]
	cluster *etcdtest.Cluster
	admin   *etcdtest.Client // for changes behind the owner's back
}

type contender = contend.Contender[link]

// A link is a contender's client, cut off from all members at once.
type link struct{ *etcdtest.Client }

func (l link) Cut()  { l.Client.Cut() }
func (l link) Heal() { l.Client.Heal() }

func newTrial(t *testing.T, cluster *etcdtest.Cluster, ttl time.Duration) *trial {
	t.Helper()
	tr := &trial{cluster: cluster, admin: cluster.NewClient(t)}
	tr.Trial = &contend.Trial[link]{
		T: t, Key: "/leases/" + t.Name(), TTL: ttl,
		Connect: func() (owner.Store, link) { return tr.connect() },
	}
	tr.Now = etcdstore.New(tr.admin.Client, tr.Key).Now
	return tr
}

// connect is for one more contender, whose client talks to these members, or to all.
func (tr *trial) connect(members ...*etcdtest.Member) (owner.Store, link) {
	tr.Helper()
	client := tr.cluster.NewClient(tr.T, members...)
	return etcdstore.New(client.Client, tr.Key), link{client}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
