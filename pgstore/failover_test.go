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
	for _, c := range tr.Contenders {
		c.Link.Aim(replica)
	}
}

// A replica that has everything: the owner keeps the lease, and hands it over as quickly as
// before.
func failoverWhole(tr *trial) {
	replica := tr.server.Replica(tr)
	a, _ := tr.OwnerAndOthers()
	tr.server.Synced(tr, replica)
	tr.Disturb(func() { tr.promote(replica) })
	tr.Renews(a, 3)
	began := a.Releases()
	tr.Settles()
	if took := tr.Now() - began; took > maxTTL/2 {
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
		last.OwnsOnce()
		next := tr.Contend()
		tr.Looked(next)
		tr.Disturb(func() {
			tr.promote(replica)
			if kept {
				tr.Renews(last, 3)
				return
			}
			lost := last.Loses()
			by := tr.Settles()
			tr.Logf("%v\nthe next owns %v after the promised end of the last", lost, by.Spy.Elected()-last.Spy.Expires())
		})
	}
}

// acquisition: in the replica, the lease is free.
func acquisition(tr *trial, replica *pgtest.Server) *contender {
	a := tr.Contend()
	a.OwnsOnce()
	tr.Owner()
	a.Releases()
	a.Leaves()
	tr.server.Synced(tr, replica)
	replica.Detach(tr)
	tr.Contend()
	return tr.Owner()
}

// takeover: the replica has an owner that has died since.
func takeover(tr *trial, replica *pgtest.Server) *contender {
	a, others := tr.OwnerAndOthers()
	others[1].Leaves()
	tr.server.Synced(tr, replica)
	replica.Detach(tr)
	a.Link.Cut()
	a.Loses()
	return tr.Owner()
}

// firstAcquisition: the replica has no row.
func firstAcquisition(tr *trial, replica *pgtest.Server) *contender {
	tr.server.Synced(tr, replica)
	replica.Detach(tr)
	tr.Contend()
	return tr.Owner()
}

// renewals: the replica has the owner, and an old renewal of its.
func renewals(tr *trial, replica *pgtest.Server) *contender {
	a := tr.Contend()
	tr.Owner()
	tr.server.Synced(tr, replica)
	replica.Detach(tr)
	tr.Renews(a, 3)
	a.OwnsOnce()
	return a
}

// A primary that waits for a replica, and gives up: it reports success, with a warning.
func cancelledSync(tr *trial) {
	replica := tr.server.Replica(tr)
	a, _ := tr.OwnerAndOthers()
	tr.sql("ALTER SYSTEM SET synchronous_standby_names = 'replica1'")
	tr.sql("SELECT pg_reload_conf()")
	tr.Renews(a, 2)
	replica.Stop()
	tr.Disturb(func() {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					_, _ = a.Link.db.pool.Exec(tr.Context(), "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
				}
			}
		}()
		lost := a.Loses()
		if !errors.Is(lost, owner.ErrExpired) || !errors.Is(lost, errWarned) {
			tr.Errorf("lost for another reason: %v", lost)
		}
		replica.Cont()
	})
	tr.Settles()
}
