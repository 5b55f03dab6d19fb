package pgstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/pgtest"
)

// Faults of servers and of their clients, each with several contenders. What they have
// seen is judged as in the torture run: never two valid owners, epochs that only grow,
// the margin kept, and an owner when it is over.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a dozen servers, and takes half a minute: run it without -short")
	}
	// Those that harm no other test share a server. All mostly wait.
	newDB(t, shared(t).DSN())
	var all errgroup.Group
	all.SetLimit(8)
	for _, s := range slices.Concat(ofClients, ofServers) {
		all.Go(func() error {
			t.Run(s.name, s.run)
			return nil
		})
	}
	_ = all.Wait()
}

// A scenario is a fault, and what must come of it.
type scenario struct {
	name   string
	ttl    time.Duration
	play   func(*trial)
	server bool // it needs one of its own
}

// maxTTL is that of the servers of single scenarios: with the longest of their TTLs, so
// that the time after a failover is as short as it can be.
const maxTTL = 8 * time.Second

func (s *scenario) run(t *testing.T) {
	var tr *trial
	if s.server {
		server := pgtest.Start(t)
		must(t, Setup(t.Context(), open(t, server.DSN()), maxTTL))
		tr = newTrial(t, server, s.ttl)
	} else {
		tr = newTrial(t, shared(t), s.ttl)
	}
	s.play(tr)
	tr.judge()
}

// The TTLs are short where the owner is to lose the lease, and long where a busy machine
// must not cost it.
var ofClients = []scenario{
	{"handover", 10 * time.Second, handover, false},
	{"an owner stays", 2 * time.Second, stays, false},
	{"the row is revoked", 4 * time.Second, revoked, false},
	{"the owner's requests do not arrive", 2 * time.Second, requestsHeldBack, false},
	{"the owner gets no answers", 2 * time.Second, answersHeldBack, false},
	{"the owner gets late answers", 12 * time.Second, answersLate, false},
	{"answers to acquisitions are lost", 20 * time.Second, acquisitionsUnanswered, false},
	{"the owner is cut off for a moment", 8 * time.Second, cutOffForAMoment, false},
	{"the owner's sessions are terminated", 8 * time.Second, terminated, false},
	{"one of the owner's connections is cut", 8 * time.Second, connectionCut, false},
	{"another transaction holds the row", 2 * time.Second, rowLocked, false},
	{"statement_timeout", 8 * time.Second, statementTimeout, false},
	{"pgbouncer", 8 * time.Second, bouncer, false},
}

var ofServers = []scenario{
	{"the server is killed for a moment", 8 * time.Second, killedForAMoment, true},
	{"the server is killed for long", 1 * time.Second, killedForLong, true},
	{"the server is stopped for a moment", 8 * time.Second, stoppedForAMoment, true},
	{"the server is stopped for long", 1 * time.Second, stoppedForLong, true},
	{"a failover keeps everything", 8 * time.Second, failoverWhole, true},
	{"a failover loses an acquisition", 4 * time.Second, failoverLoses(acquisition, false), true},
	{"a failover loses an acquisition after an expiry", 2 * time.Second, failoverLoses(takeover, false), true},
	{"a failover loses the first acquisition", 4 * time.Second, failoverLoses(firstAcquisition, false), true},
	{"a failover loses renewals", 8 * time.Second, failoverLoses(renewals, true), true},
	{"a synchronous commit is cancelled", 2 * time.Second, cancelledSync, true},
	{"a storm", 1 * time.Second, storm, true},
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
	for range 20 {
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
func requestsHeldBack(tr *trial) {
	a, _ := ownerAndOthers(tr)
	a.net.Cut()
	if lost := a.loses(); !errors.Is(lost, owner.ErrExpired) {
		tr.Errorf("lost for another reason: %v", lost)
	}
	expired := a.spy.expires()
	by := tr.owner()
	late := time.Duration(by.spy.elected.Load()) - expired
	tr.Logf("another owns %v after the TTL of %v has passed since the last renewal", late, tr.ttl)
	// What it has sent is not lost, and is applied now: to release the lease, for one.
	a.net.Heal()
	tr.renews(by, 3)
}

// Its renewals are applied, as far as it comes with them.
func answersHeldBack(tr *trial) {
	a, _ := ownerAndOthers(tr)
	a.net.Deafen()
	if lost := a.loses(); !errors.Is(lost, owner.ErrExpired) {
		tr.Errorf("lost for another reason: %v", lost)
	}
	by := tr.owner()
	a.net.Heal()
	tr.renews(by, 3)
}

// A link that is slow, but far quicker than the fence, costs nothing: requests are not
// given up.
func answersLate(tr *trial) {
	a, _ := ownerAndOthers(tr)
	a.net.Delay(tr.ttl / 20)
	tr.renews(a, 5)
}

// A network that comes back in time costs nothing.
func cutOffForAMoment(tr *trial) {
	a, _ := ownerAndOthers(tr)
	from := a.spy.from()
	a.net.Cut()
	await(tr, "a renewal that is held back", func() bool { return tr.now() > from+tr.ttl/6 })
	a.net.Heal()
	tr.renews(a, 3)
}

// Nor does a connection that is cut for good, while others can be made.
func connectionCut(tr *trial) {
	a, _ := ownerAndOthers(tr)
	a.net.CutThose()
	tr.renews(a, 5)
}

func terminated(tr *trial) {
	a, others := ownerAndOthers(tr)
	before := others[0].spy.hints.Load()
	for range 3 {
		tr.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%s/%%'", tr.key)
		tr.renews(a, 2)
	}
	await(tr, "a hint after the loss of the connection", func() bool { return others[0].spy.hints.Load() > before })
	a.releases()
	tr.owner()
}

func (tr *trial) sql(format string, args ...any) string {
	tr.Helper()
	return tr.server.Exec(tr, fmt.Sprintf(format, args...))
}

// The others know it before the owner does, and must wait all the same, until the owner
// has stopped.
func revoked(tr *trial) {
	a, _ := ownerAndOthers(tr)
	began := tr.now()
	revoking := make(chan error, 1)
	var was owner.Record
	go func() {
		var err error
		was, err = Revoke(tr.Context(), a.db, tr.key)
		revoking <- err
	}()
	if lost := a.loses(); !errors.Is(lost, owner.ErrRevoked) {
		tr.Errorf("lost for another reason: %v", lost)
	}
	if took := tr.now() - began; took > tr.ttl/2 {
		tr.Errorf("the owner had to notice it at once; it took %v", took)
	}
	tr.owner()
	must(tr, <-revoking)
	if was.InstanceID == "" {
		tr.Error("Revoke has found no owner")
	}
}

// A transaction that locks one row costs that lease, and delays no other of the process.
func rowLocked(tr *trial) {
	a := tr.contend()
	a.once.Store(true)
	tr.owner()
	claim := owner.Record{InstanceID: "00000000-0000-4000-8000-000000000001", TTL: 10 * time.Second}
	other, err := New(a.db, tr.key+"/other").Acquire(tr.Context(), claim)
	must(tr, err)
	conn, err := a.db.connect(tr.Context())
	must(tr, err)
	defer closeSoon(conn)
	tx, err := conn.Begin(tr.Context())
	must(tr, err)
	_, err = tx.Exec(tr.Context(), "SELECT FROM owner_lease WHERE key = $1 FOR UPDATE", tr.key)
	must(tr, err)
	lost := a.loses()
	if !errors.Is(lost, owner.ErrExpired) || !errors.Is(lost, errLocked) {
		tr.Errorf("lost for another reason: %v", lost)
	}
	began := tr.now()
	if err := other.Lease.Renew(tr.Context(), tr.now()); err != nil || tr.now()-began > time.Second {
		tr.Errorf("another lease of the process: %v, after %v", err, tr.now()-began)
	}
	must(tr, tx.Rollback(tr.Context()))
	tr.contend()
	tr.settles()
}

// The role's timeouts are shorter than the server takes for what is asked of it at times.
func statementTimeout(tr *trial) {
	const options = ` options='-c statement_timeout=30 -c idle_session_timeout=100 -c idle_in_transaction_session_timeout=100'`
	for range 3 {
		tr.contendBy(nil, tr.server.DSN()+options)
	}
	tr.renews(tr.owner(), 5)
	tr.owner().releases()
	tr.settles()
}

// There are no notifications by way of pgbouncer, which Watch reports.
func bouncer(tr *trial) {
	dsn := pgtest.DSN(tr.server.Bouncer(tr))
	for range 3 {
		tr.contendBy(nil, dsn)
	}
	a := tr.owner()
	tr.looked(tr.contenders...)
	stop, err := New(a.db, tr.key).Watch(owner.Record{}, func() {})
	await(tr, "an error of Watch", func() bool {
		stop()
		stop, err = New(a.db, tr.key).Watch(owner.Record{}, func() {})
		return err != nil
	})
	stop()
	if !errors.Is(err, errDeaf) || !strings.Contains(err.Error(), "pgbouncer") {
		tr.Errorf("Watch: %v", err)
	}
	tr.renews(a, 5)
	began := a.releases()
	tr.settles()
	tr.Logf("handed over without notifications in %v", tr.now()-began)
}

func killedForAMoment(tr *trial) {
	a, _ := ownerAndOthers(tr)
	tr.disturb(func() {
		tr.server.Kill()
		tr.server.Restart(tr)
	})
	tr.renews(a, 3)
	began := a.releases()
	if tr.settles() == a {
		tr.Errorf("it was to leave")
	}
	tr.Logf("handed over in %v", tr.now()-began)
}

func killedForLong(tr *trial) {
	a, _ := ownerAndOthers(tr)
	tr.disturb(func() {
		tr.server.Kill()
		a.loses()
		await(tr, "the end of the lease", func() bool { return tr.now() > a.spy.expires() })
		tr.server.Restart(tr)
	})
	tr.settles()
}

func stoppedForAMoment(tr *trial) {
	a, _ := ownerAndOthers(tr)
	from := a.spy.from()
	tr.disturb(func() {
		tr.server.Stop()
		await(tr, "a renewal that is not answered", func() bool { return tr.now() > from+tr.ttl/4 })
		tr.server.Cont()
	})
	tr.renews(a, 3)
}

func stoppedForLong(tr *trial) {
	a, _ := ownerAndOthers(tr)
	tr.disturb(func() {
		tr.server.Stop()
		a.loses()
		await(tr, "the end of the lease", func() bool { return tr.now() > a.spy.expires() })
		tr.server.Cont()
	})
	tr.settles()
}
