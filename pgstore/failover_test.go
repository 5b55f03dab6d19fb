package pgstore

import (
	"errors"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/pgtest"
)

// promote ends the server, as kill -9 does, and has the replica take its place and its
// address.
func (tr *trial) promote(replica *pgtest.Server) {
	tr.Helper()
	tr.server.Kill()
	replica.Promote(tr)
	tr.server = replica
	for _, c := range tr.contenders {
		c.net.Aim(replica)
	}
}

// A replica that has everything: the owner keeps the lease, and hands it over as quickly as
// before.
func failoverWhole(tr *trial) {
	replica := tr.server.Replica(tr)
	a, _ := ownerAndOthers(tr)
	tr.server.Synced(tr, replica)
	tr.disturb(func() { tr.promote(replica) })
	tr.renews(a, 3)
	began := a.releases()
	tr.settles()
	if took := tr.now() - began; took > maxTTL/2 {
		tr.Errorf("the handover after a failover took %v, as if nothing were known of it", took)
	}
}

// failoverLoses is the promotion of a replica that lacks what a contender has done last, as
// asynchronous replication allows. That one owns. If it is not in the replica, it loses the
// lease, and no other owns before its TTL has passed.
func failoverLoses(what func(tr *trial, replica *pgtest.Server) (last *contender), kept bool) func(*trial) {
	return func(tr *trial) {
		replica := tr.server.Replica(tr)
		last := what(tr, replica)
		last.once.Store(true)
		next := tr.contend()
		tr.looked(next)
		tr.disturb(func() {
			tr.promote(replica)
			if kept {
				tr.renews(last, 3)
				return
			}
			lost := last.loses()
			by := tr.settles()
			tr.Logf("%v\nthe next owns %v after the promised end of the last", lost, time.Duration(by.spy.elected.Load())-last.spy.expires())
		})
	}
}

// acquisition: in the replica, the lease is free.
func acquisition(tr *trial, replica *pgtest.Server) *contender {
	a := tr.contend()
	a.once.Store(true)
	tr.owner()
	a.releases()
	a.end()
	tr.server.Synced(tr, replica)
	replica.Detach(tr)
	tr.contend()
	return tr.owner()
}

// takeover: the replica has an owner that has died since.
func takeover(tr *trial, replica *pgtest.Server) *contender {
	a, others := ownerAndOthers(tr)
	others[1].end()
	tr.server.Synced(tr, replica)
	replica.Detach(tr)
	a.net.Cut()
	a.loses()
	return tr.owner()
}

// firstAcquisition: the replica has no row.
func firstAcquisition(tr *trial, replica *pgtest.Server) *contender {
	tr.server.Synced(tr, replica)
	replica.Detach(tr)
	tr.contend()
	return tr.owner()
}

// renewals: the replica has the owner, and an old renewal of its.
func renewals(tr *trial, replica *pgtest.Server) *contender {
	a := tr.contend()
	tr.owner()
	tr.server.Synced(tr, replica)
	replica.Detach(tr)
	tr.renews(a, 3)
	a.once.Store(true)
	return a
}

// A primary that waits for a replica, and gives up: it reports success, with a warning.
func cancelledSync(tr *trial) {
	replica := tr.server.Replica(tr)
	a, _ := ownerAndOthers(tr)
	tr.sql("ALTER SYSTEM SET synchronous_standby_names = 'replica1'")
	tr.sql("SELECT pg_reload_conf()")
	tr.renews(a, 2)
	replica.Stop()
	tr.disturb(func() {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					_, _ = a.db.pool.Exec(tr.Context(), "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
				}
			}
		}()
		lost := a.loses()
		if !errors.Is(lost, owner.ErrExpired) || !errors.Is(lost, errWarned) {
			tr.Errorf("lost for another reason: %v", lost)
		}
		replica.Cont()
	})
	tr.settles()
}
