package pgstore

import (
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ownerlease/owner/internal/mutant"
)

var withMutants = flag.Bool("mutants", false, "build each mutant, and demand that the tests find it")

// mutants are the store with a line or two changed, so that it breaks a promise, and the
// test that finds it.
var mutants = []struct {
	name    string
	by      string // as go test -run takes it
	changes []mutant.Mutant
}{
	{"the incarnation does not matter", "TestFaults/a_failover_loses_an_acquisition$", []mutant.Mutant{
		{File: "row.go", Old: "	case !r.trusted():", New: "	case false:"},
		{File: "store.go", Old: "case !r.present && !r.trusted():", New: "case false:"},
	}},
	{"a missing row is taken at once", "TestFaults/a_failover_loses_the_first_acquisition", []mutant.Mutant{
		{File: "row.go", Old: "return r.anchor == r.server", New: "return true"},
		{File: "sql.go", Old: " AND a.incarnation = $7", New: " AND $7 <> ''"},
	}},
	{"a renewal does not stamp the incarnation", "TestFaults/a_failover_keeps_everything", []mutant.Mutant{
		{File: "lease.go", Old: "l.validUntil, l.confirmed = at+l.rec.TTL, incarnation", New: "l.validUntil = at+l.rec.TTL\n\t\t_ = incarnation"},
	}},
	{"a warning counts as success", "TestFaults/a_synchronous_commit_is_cancelled", []mutant.Mutant{
		{File: "db.go", Old: "ok && err == nil {", New: "ok && false {"},
	}},
	{"a challenger counts from before the answer, without end", "TestStore", []mutant.Mutant{
		{File: "store.go", Old: "free = s.seen.at + r.wait(); now >= free", New: "free = s.seen.at + r.wait()/4; now >= free"},
	}},
	{"an acquisition takes what it has not read", "TestStore", []mutant.Mutant{
		{File: "sql.go", Old: "AND instance = $6 AND beat = $7 AND held = $8 AND incarnation = $9 FOR", New: "AND ($6, $7, $8::boolean, $9) IS NOT NULL FOR"},
	}},
	{"a release takes any row", "TestStore", []mutant.Mutant{
		{File: "sql.go", Old: "WHERE l.key = $1 AND l.instance = $2 AND l.held RETURNING", New: "WHERE l.key = $1 AND $2 <> '' AND l.held RETURNING"},
	}},
	{"a request asks any owner", "TestStore", []mutant.Mutant{
		{File: "sql.go", Old: "WHERE key = $1 AND instance = $2 AND held AND NOT revoked AND (NOT handover", New: "WHERE key = $1 AND $2 <> '' AND held AND NOT revoked AND (NOT handover"},
		{File: "handover.go", Old: "return r.held && !r.revoked && r.instance == instance", New: "return r.held && !r.revoked"},
	}},
	{"a request outlives its ownership", "TestStore", []mutant.Mutant{
		{File: "sql.go", Old: "advertised = 0, handover = false, successor = '',", New: "advertised = 0,"},
	}},
	{"an acquisition whose answer is lost is not given back", "TestAcquireUndecided", []mutant.Mutant{
		{File: "store.go", Old: "if !errors.As(err, new(connectError)) {", New: "if errors.As(err, new(connectError)) {"},
	}},
	{"an acquisition whose answer is lost is sent again", "TestAcquireUndecided", []mutant.Mutant{
		{File: "store.go", Old: "epoch, err := s.won(ctx, sql, args...)", New: "epoch, err := s.won(ctx, sql, args...)\n\tif err != nil {\n\t\tepoch, err = s.won(ctx, sql, args...)\n\t}"},
	}},
	{"a locked row holds the others up", "TestLockedRow", []mutant.Mutant{
		{File: "sql.go", Old: " SKIP LOCKED", New: ""},
	}},
	{"a renewal waits for one connection", "TestFaults/one_of_the_owner.s_connections_is_cut", []mutant.Mutant{
		{File: "keeper.go", Old: "slow := time.AfterFunc(b.patience(),", New: "slow := time.AfterFunc(time.Hour,"},
	}},
	{"an acquisition does not wait for fenced transactions", "TestFence", []mutant.Mutant{
		{File: "sql.go", Old: "AND incarnation = $9 FOR UPDATE", New: "AND incarnation = $9 FOR NO KEY UPDATE"},
	}},
	{"nothing is polled for where nothing was before", "TestDeafOwnerIsAsked", []mutant.Mutant{
		{File: "news.go", Old: "		close(n.heard)\n	}\n	n.pollMore()\n", New: "		close(n.heard)\n	}\n"},
	}},
	{"the first poll is no news", "TestDeafOwnerIsAsked", []mutant.Mutant{
		{File: "watch.go", Old: "(w.face.known || deaf)", New: "w.face.known"},
	}},
	{"a death is not witnessed", "TestOwnerIsKilled", []mutant.Mutant{
		{File: "watch.go", Old: `instance == "" || last.instance != instance`, New: "true"},
	}},
	{"a witness comes after the notifications", "TestOwnerIsKilled", []mutant.Mutant{
		{File: "watch.go", Old: "	unwatch := s.witness(holder.InstanceID) // first, as the rest may take a moment\n	err = s.db.news.add(w)", New: "	err = s.db.news.add(w)\n	unwatch := s.witness(holder.InstanceID)"},
	}},
}

// The tests can fail: each mutant is found by the one that is to find it.
func TestMutants(t *testing.T) {
	if !*withMutants {
		t.Skip("builds the package for each mutant: run it with go test -run TestMutants -v . -mutants")
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			overlay, err := mutant.Overlay(".", dir, m.changes...)
			must(t, err)
			test := filepath.Join(dir, "mutant.test")
			if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", test, ".").CombinedOutput(); err != nil {
				t.Fatalf("cannot be built: %v\n%s", err, out)
			}
			for range 2 {
				out, err := exec.Command(test, "-test.run", m.by, "-test.v").CombinedOutput()
				t.Logf("%s", out)
				var failed *exec.ExitError
				if errors.As(err, &failed) {
					return
				}
			}
			t.Error("was not found")
		})
	}
}

// Each mutant's lines are there, so that none is lost when the store changes.
func TestMutantsApply(t *testing.T) {
	for _, m := range mutants {
		if _, err := mutant.Overlay(".", t.TempDir(), m.changes...); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}
