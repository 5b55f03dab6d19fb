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
	"github.com/ownerlease/owner/internal/contend"
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
	tr.Judge()
}

// The TTLs are short where the owner is to lose the lease, and long where a busy machine
// must not cost it.
var ofClients = []scenario{
	{"handover", 10 * time.Second, func(tr *trial) { tr.Handover(20) }, false},
	{"an owner stays", 2 * time.Second, func(tr *trial) { tr.Stays() }, false},
	{"the row is revoked", 4 * time.Second, revoked, false},
	{"the owner's requests do not arrive", 2 * time.Second, func(tr *trial) { tr.RequestsHeldBack() }, false},
	{"the owner gets no answers", 2 * time.Second, func(tr *trial) { tr.AnswersHeldBack() }, false},
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

// A link that is slow, but far quicker than the fence, costs nothing: requests are not
// given up.
func answersLate(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	a.Link.Delay(tr.TTL / 20)
	tr.Renews(a, 5)
}

// A network that comes back in time costs nothing.
func cutOffForAMoment(tr *trial) {
	tr.CutOffForAMoment(func(a *contender) {
		contend.Await(tr, "a renewal that is held back", func() bool { return tr.Now() > a.Spy.From()+tr.TTL/6 })
	})
}

// Nor does a connection that is cut for good, while others can be made.
func connectionCut(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	a.Link.CutThose()
	tr.Renews(a, 5)
}

func terminated(tr *trial) {
	a, others := tr.OwnerAndOthers()
	before := others[0].Spy.Hints()
	for range 3 {
		tr.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%s/%%'", tr.Key)
		tr.Renews(a, 2)
	}
	contend.Await(tr, "a hint after the loss of the connection", func() bool { return others[0].Spy.Hints() > before })
	a.Releases()
	tr.Owner()
}

func (tr *trial) sql(format string, args ...any) string {
	tr.Helper()
	return tr.server.Exec(tr, fmt.Sprintf(format, args...))
}

// The others know it before the owner does, and must wait all the same, until the owner
// has stopped.
func revoked(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	began := tr.Now()
	revoking := make(chan error, 1)
	var was owner.Record
	go func() {
		var err error
		was, err = Revoke(tr.Context(), a.Link.db, tr.Key)
		revoking <- err
	}()
	if lost := a.Loses(); !errors.Is(lost, owner.ErrRevoked) {
		tr.Errorf("lost for another reason: %v", lost)
	}
	if took := tr.Now() - began; took > tr.TTL/2 {
		tr.Errorf("the owner had to notice it at once; it took %v", took)
	}
	tr.Owner()
	must(tr, <-revoking)
	if was.InstanceID == "" {
		tr.Error("Revoke has found no owner")
	}
}

// A transaction that locks one row costs that lease, and delays no other of the process.
func rowLocked(tr *trial) {
	a := tr.Contend()
	a.OwnsOnce()
	tr.Owner()
	claim := owner.Record{InstanceID: "00000000-0000-4000-8000-000000000001", TTL: 10 * time.Second}
	other, err := New(a.Link.db, tr.Key+"/other").Acquire(tr.Context(), claim)
	must(tr, err)
	conn, err := a.Link.db.connect(tr.Context())
	must(tr, err)
	defer closeSoon(conn)
	tx, err := conn.Begin(tr.Context())
	must(tr, err)
	_, err = tx.Exec(tr.Context(), "SELECT FROM owner_lease WHERE key = $1 FOR UPDATE", tr.Key)
	must(tr, err)
	lost := a.Loses()
	if !errors.Is(lost, owner.ErrExpired) || !errors.Is(lost, errLocked) {
		tr.Errorf("lost for another reason: %v", lost)
	}
	began := tr.Now()
	if err := other.Lease.Renew(tr.Context(), tr.Now()); err != nil || tr.Now()-began > time.Second {
		tr.Errorf("another lease of the process: %v, after %v", err, tr.Now()-began)
	}
	must(tr, tx.Rollback(tr.Context()))
	tr.Contend()
	tr.Settles()
}

// The role's timeouts are shorter than the server takes for what is asked of it at times.
func statementTimeout(tr *trial) {
	const options = ` options='-c statement_timeout=30 -c idle_session_timeout=100 -c idle_in_transaction_session_timeout=100'`
	for range 3 {
		tr.ContendBy(tr.connectTo(tr.server.DSN() + options))
	}
	tr.Renews(tr.Owner(), 5)
	tr.Owner().Releases()
	tr.Settles()
}

// There are no notifications by way of pgbouncer, which Watch reports.
func bouncer(tr *trial) {
	dsn := pgtest.DSN(tr.server.Bouncer(tr))
	for range 3 {
		tr.ContendBy(tr.connectTo(dsn))
	}
	a := tr.Owner()
	tr.Looked(tr.Contenders...)
	stop, err := New(a.Link.db, tr.Key).Watch(owner.Record{}, func() {})
	contend.Await(tr, "an error of Watch", func() bool {
		stop()
		stop, err = New(a.Link.db, tr.Key).Watch(owner.Record{}, func() {})
		return err != nil
	})
	stop()
	if !errors.Is(err, errDeaf) || !strings.Contains(err.Error(), "pgbouncer") {
		tr.Errorf("Watch: %v", err)
	}
	tr.Renews(a, 5)
	began := a.Releases()
	tr.Settles()
	tr.Logf("handed over without notifications in %v", tr.Now()-began)
}

func killedForAMoment(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	tr.Disturb(func() {
		tr.server.Kill()
		tr.server.Restart(tr)
	})
	tr.Renews(a, 3)
	began := a.Releases()
	if tr.Settles() == a {
		tr.Errorf("it was to leave")
	}
	tr.Logf("handed over in %v", tr.Now()-began)
}

func killedForLong(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	tr.Disturb(func() {
		tr.server.Kill()
		a.Loses()
		contend.Await(tr, "the end of the lease", func() bool { return tr.Now() > a.Spy.Expires() })
		tr.server.Restart(tr)
	})
	tr.Settles()
}

func stoppedForAMoment(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	from := a.Spy.From()
	tr.Disturb(func() {
		tr.server.Stop()
		contend.Await(tr, "a renewal that is not answered", func() bool { return tr.Now() > from+tr.TTL/4 })
		tr.server.Cont()
	})
	tr.Renews(a, 3)
}

func stoppedForLong(tr *trial) {
	a, _ := tr.OwnerAndOthers()
	tr.Disturb(func() {
		tr.server.Stop()
		a.Loses()
		contend.Await(tr, "the end of the lease", func() bool { return tr.Now() > a.Spy.Expires() })
		tr.server.Cont()
	})
	tr.Settles()
}
