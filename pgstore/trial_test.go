package pgstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/contend"
	"github.com/ownerlease/owner/internal/pgtest"
)

// A trial is one lease at a server, and its contenders.
type trial struct {
	*contend.Trial[link]
	server *pgtest.Server
}

type contender = contend.Contender[link]

// A link is a contender's connections, by way of a network of its own if there is one.
type link struct {
	*pgtest.Proxy
	db *DB
}

func (l link) Heal() {
	if l.Proxy != nil {
		l.Proxy.Heal()
	}
}

func newTrial(t *testing.T, server *pgtest.Server, ttl time.Duration) *trial {
	t.Helper()
	tr := &trial{server: server}
	tr.Trial = &contend.Trial[link]{
		T: t, Key: "leases/" + strings.ReplaceAll(t.Name(), "'", ""), TTL: ttl, Now: (&store{}).Now,
		Connect: func() (owner.Store, link) { return tr.connect(tr.server.Proxy(t)) },
	}
	return tr
}

// connect is for one more contender, on this network.
func (tr *trial) connect(net *pgtest.Proxy) (owner.Store, link) {
	tr.Helper()
	store, l := tr.connectTo(net.DSN())
	l.Proxy = net
	return store, l
}

func (tr *trial) connectTo(dsn string) (owner.Store, link) {
	tr.Helper()
	db := open(tr.T, fmt.Sprintf("%s application_name='%s/%d'", dsn, tr.Key, len(tr.Contenders)))
	return New(db, tr.Key), link{db: db}
}
