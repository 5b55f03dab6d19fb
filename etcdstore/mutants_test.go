package etcdstore_test

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
	{"the first key is enough", "TestFaults/keys/the_first_key_is_deleted,_unheard", []mutant.Mutant{
		{File: "value.go", Old: "for _, kv := range l.kvs {\n\t\tif kv == nil {\n\t\t\tcontinue", New: "for _, kv := range l.kvs[:1] {\n\t\tif kv == nil {\n\t\t\tcontinue"},
		{File: "store.go", Old: "{absent(s.key), absent(s.alive)}", New: "{absent(s.key)}"},
	}},
	{"the second key is enough", "TestFaults/keys/the_second_lease_is_revoked", []mutant.Mutant{
		{File: "value.go", Old: "for _, kv := range l.kvs {\n\t\tif kv == nil {\n\t\t\tcontinue", New: "for _, kv := range l.kvs[1:] {\n\t\tif kv == nil {\n\t\t\tcontinue"},
		{File: "store.go", Old: "{absent(s.key), absent(s.alive)}", New: "{absent(s.alive)}"},
	}},
	{"the first TTL counts from the answer", "TestFaults/keys/the_owner_gets_late_answers", []mutant.Mutant{
		{File: "store.go", Old: "From: acq.From}", New: "From: s.Now()}"},
	}},
	{"a renewal does not check the keys", "TestFaults/keys/the_first_key_is_deleted$", []mutant.Mutant{
		{File: "lease.go", Old: "terms[i], err = l.check(ctx)", New: ""},
	}},
	{"a renewal keeps one lease alive", "TestFaults/keys/an_owner_stays", []mutant.Mutant{
		{File: "lease.go", Old: "l.keepAlive(ctx, l.ids[i])", New: "l.keepAlive(ctx, l.ids[0])"},
	}},
	{"a renewal believes a replaced leader", "TestRenewWithReplacedLeader", []mutant.Mutant{
		{File: "lease.go", Old: "err == nil && slices.Min(terms) < terms[len(l.ids)]", New: "slices.Min(terms) < 0"},
	}},
	{"a release deletes whatever is there", "TestStore", []mutant.Mutant{
		{File: "advertise.go", Old: `clientv3.Compare(clientv3.ModRevision(key), "=", l.rev)`, New: `clientv3.Compare(clientv3.ModRevision(key), ">", 0)`},
	}},
	{"a revocation deletes whatever is there", "TestRevokeSparesASuccessor", []mutant.Mutant{
		{File: "revoke.go", Old: `"=", found.kvs[i].ModRevision`, New: `">", 0`},
	}},
	{"a revocation takes the last key away", "TestRevokeLeavesTheLastKey", []mutant.Mutant{
		{File: "revoke.go", Old: ", unchanged(1, s.alive)", New: ""},
	}},
	{"an attempt without an answer keeps what it has won", "TestStore/LostAnswer", []mutant.Mutant{
		{File: "store.go", Old: "undone := s.revoke(context.WithoutCancel(ctx), p, g.ids...)", New: "undone := error(nil)"},
	}},
	{"a late request is given up", "TestCall", []mutant.Mutant{
		{File: "call.go", Old: "answer, err := request(ctx, r)", New: "ctx, cancel := context.WithTimeout(ctx, time.Duration(p))\n\t\t\tdefer cancel()\n\t\t\tanswer, err := request(ctx, r)"},
	}},
	{"all requests take the client's own route", "TestFaults/keys/two_of_the_owner", []mutant.Mutant{
		{File: "call.go", Old: "routes[asked%len(routes)]", New: "routes[0]"},
	}},
	{"all routes lead to one endpoint", "TestFaults/keys/two_of_the_owner", []mutant.Mutant{
		{File: "endpoints.go", Old: "e.client.Dial(name)", New: "e.client.Dial(e.client.Endpoints()[0])"},
	}},
	{"an acquisition believes a replaced leader", "TestSlowAcquisition", []mutant.Mutant{
		{File: "overlap.go", Old: " && slices.Min(terms) == terms[len(l.ids)]", New: " && slices.Max(terms) > 0"},
	}},
	{"an acquisition counts what was not kept", "TestSlowAcquisition", []mutant.Mutant{
		{File: "overlap.go", Old: "if foremost(errs...) == nil && slices.Min(terms) == terms[len(l.ids)]", New: "if errs[len(l.ids)] == nil && slices.Max(terms) == terms[len(l.ids)]"},
	}},
	{"reasons are not told apart", "TestWhyEachIsUnreachable", []mutant.Mutant{
		{File: "unanswered.go", Old: `single[j].endpoint + ": " + reasons[i]`, New: "single[j].reason"},
	}},
	{"a death is not witnessed", "TestOwnerIsKilled", []mutant.Mutant{
		{File: "witness.go", Old: `instance == "" || last.holder != instance`, New: "true"},
	}},
	{"a witness ends whatever is there", "TestLateWitness", []mutant.Mutant{
		{File: "witness.go", Old: "err := s.revoke(ctx, readPatience, leases...); err", New: "found, err := s.read(ctx, readPatience); s.revoke(ctx, readPatience, found.leases()...)"},
	}},
	{"a witness goes on after its watch", "TestStoppedWitness", []mutant.Mutant{
		{File: "watch.go", Old: "unwatch()\n", New: "_ = unwatch\n"},
	}},
	{"a watch continues from what is compacted", "TestFaults/keys/what_a_watch_has_missed_is_compacted", []mutant.Mutant{
		{File: "watch.go", Old: "return 0, begun", New: "return rev, begun"},
	}},
	{"a watch that begins again gives no hint", "TestFaults/keys/what_a_watch_has_missed_is_compacted", []mutant.Mutant{
		{File: "watch.go", Old: "resp.Created && !told ||", New: ""},
	}},
}

// The tests can fail: each mutant is found by the one that is to find it.
func TestMutants(t *testing.T) {
	if !*withMutants {
		t.Skip("builds the package for each mutant: run it with go test -run TestMutants -v . -mutants")
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			overlay, err := mutant.Overlay(".", dir, m.changes...)
			must(t, err)
			test := filepath.Join(dir, "mutant.test")
			if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", test, ".").CombinedOutput(); err != nil {
				t.Fatalf("cannot be built: %v\n%s", err, out)
			}
			// On a busy machine, a watch may begin only after what it was to miss.
			for range 3 {
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
