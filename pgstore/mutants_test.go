package pgstore

import (
	"flag"
	"testing"

	"github.com/ownerlease/owner/internal/mutant"
	"github.com/ownerlease/owner/internal/mutant/mutanttest"
)

var withMutants = flag.Bool("mutants", false, "build each mutant, and demand that the tests find it")

// mutants are the store broken, and the test that finds it.
var mutants = []mutanttest.Case{
	{Name: "the incarnation does not matter", By: "TestFaults/a_failover_loses_an_acquisition$", Changes: []mutant.Mutant{
		{File: "row.go", Old: "	case !r.trusted():", New: "	case false:"},
		{File: "store.go", Old: "case !r.present && !r.trusted():", New: "case false:"},
	}},
	{Name: "a missing row is taken at once", By: "TestFaults/a_failover_loses_the_first_acquisition", Changes: []mutant.Mutant{
		{File: "row.go", Old: "return r.anchor == r.server", New: "return true"},
		{File: "sql.go", Old: " AND a.incarnation = $7", New: " AND $7 <> ''"},
	}},
	{Name: "a renewal does not stamp the incarnation", By: "TestFaults/a_failover_keeps_everything", Changes: []mutant.Mutant{
		{File: "lease.go", Old: "l.validUntil, l.confirmed = at+l.rec.TTL, incarnation", New: "l.validUntil = at+l.rec.TTL\n\t\t_ = incarnation"},
	}},
	{Name: "a warning counts as success", By: "TestFaults/a_synchronous_commit_is_cancelled", Changes: []mutant.Mutant{
		{File: "db.go", Old: "ok && err == nil {", New: "ok && false {"},
	}},
	{Name: "a challenger counts from before the answer, without end", By: "TestStore", Changes: []mutant.Mutant{
		{File: "store.go", Old: "free = s.seen.at + r.wait(); now >= free", New: "free = s.seen.at + r.wait()/4; now >= free"},
	}},
	{Name: "an acquisition takes what it has not read", By: "TestStore", Changes: []mutant.Mutant{
		{File: "sql.go", Old: "AND instance = $6 AND beat = $7 AND held = $8 AND incarnation = $9 FOR", New: "AND ($6, $7, $8::boolean, $9) IS NOT NULL FOR"},
	}},
	{Name: "a release takes any row", By: "TestStore", Changes: []mutant.Mutant{
		{File: "sql.go", Old: "WHERE l.key = $1 AND l.instance = $2 AND l.held RETURNING", New: "WHERE l.key = $1 AND $2 <> '' AND l.held RETURNING"},
	}},
	{Name: "a request asks any owner", By: "TestStore", Changes: []mutant.Mutant{
		{File: "sql.go", Old: "WHERE key = $1 AND instance = $2 AND held AND NOT revoked AND (NOT handover", New: "WHERE key = $1 AND $2 <> '' AND held AND NOT revoked AND (NOT handover"},
		{File: "handover.go", Old: "return r.held && !r.revoked && r.instance == instance", New: "return r.held && !r.revoked"},
	}},
	{Name: "a request outlives its ownership", By: "TestStore", Changes: []mutant.Mutant{
		{File: "sql.go", Old: "advertised = 0, handover = false, successor = '',", New: "advertised = 0,"},
	}},
	{Name: "an acquisition whose answer is lost is not given back", By: "TestAcquireUndecided", Changes: []mutant.Mutant{
		{File: "store.go", Old: "if !errors.As(err, new(connectError)) {", New: "if errors.As(err, new(connectError)) {"},
	}},
	{Name: "an acquisition whose answer is lost is sent again", By: "TestAcquireUndecided", Changes: []mutant.Mutant{
		{File: "store.go", Old: "epoch, err := s.won(ctx, sql, args...)", New: "epoch, err := s.won(ctx, sql, args...)\n\tif err != nil {\n\t\tepoch, err = s.won(ctx, sql, args...)\n\t}"},
	}},
	{Name: "a locked row holds the others up", By: "TestLockedRow", Changes: []mutant.Mutant{
		{File: "sql.go", Old: " SKIP LOCKED", New: ""},
	}},
	{Name: "a renewal waits for one connection", By: "TestFaults/one_of_the_owner.s_connections_is_cut", Changes: []mutant.Mutant{
		{File: "keeper.go", Old: "slow := time.AfterFunc(b.patience(),", New: "slow := time.AfterFunc(time.Hour,"},
	}},
	{Name: "an acquisition does not wait for fenced transactions", By: "TestFence", Changes: []mutant.Mutant{
		{File: "sql.go", Old: "AND incarnation = $9 FOR UPDATE", New: "AND incarnation = $9 FOR NO KEY UPDATE"},
	}},
	{Name: "nothing is polled for where nothing was before", By: "TestDeafOwnerIsAsked", Changes: []mutant.Mutant{
		{File: "news.go", Old: "		close(n.heard)\n	}\n	n.pollMore()\n", New: "		close(n.heard)\n	}\n"},
	}},
	{Name: "the first poll is no news", By: "TestDeafOwnerIsAsked", Changes: []mutant.Mutant{
		{File: "watch.go", Old: "(w.face.known || deaf)", New: "w.face.known"},
	}},
	{Name: "a death is not witnessed", By: "TestOwnerIsKilled", Changes: []mutant.Mutant{
		{File: "watch.go", Old: `instance == "" || last.instance != instance`, New: "true"},
	}},
	{Name: "a witness comes after the notifications", By: "TestOwnerIsKilled", Changes: []mutant.Mutant{
		{File: "watch.go", Old: "	unwatch := s.witness(holder.InstanceID) // first, as the rest may take a moment\n	err = s.db.news.add(w)", New: "	err = s.db.news.add(w)\n	unwatch := s.witness(holder.InstanceID)"},
	}},
	{Name: "an expired owner can go on", By: "TestFenceOfAnOwnerThatGoesOn", Changes: []mutant.Mutant{
		{File: "store.go", Old: "		if r.held {\n			_, err := s.db.change(ctx, p, sqlExpire", New: "		if false {\n			_, err := s.db.change(ctx, p, sqlExpire"},
	}},
	{Name: "what was not replicated is not told", By: "TestWarningsAreNotWanted", Changes: []mutant.Mutant{
		{File: "sql.go", Old: ", set_config('client_min_messages', 'warning', true)", New: ""},
	}},
}

// The tests can fail: each mutant is found by the one that is to find it.
func TestMutants(t *testing.T) {
	if !*withMutants {
		t.Skip("builds the package for each mutant: run it with go test -run TestMutants -v . -mutants")
	}
	mutanttest.Found(t, mutants)
}

func TestMutantsApply(t *testing.T) { mutanttest.Apply(t, mutants) }
