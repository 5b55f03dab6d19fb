package etcdstore_test

import (
	"flag"
	"testing"

	"github.com/ownerlease/owner/internal/mutant"
	"github.com/ownerlease/owner/internal/mutant/mutanttest"
)

var withMutants = flag.Bool("mutants", false, "build each mutant, and demand that the tests find it")

// mutants are the store broken, and the test that finds it.
var mutants = []mutanttest.Case{
	{Name: "the first key is enough", By: "TestFaults/keys/the_first_key_is_deleted,_unheard", Changes: []mutant.Mutant{
		{File: "value.go", Old: "for _, kv := range l.kvs {\n\t\tif kv == nil {\n\t\t\tcontinue", New: "for _, kv := range l.kvs[:1] {\n\t\tif kv == nil {\n\t\t\tcontinue"},
		{File: "store.go", Old: "{absent(s.key), absent(s.alive)}", New: "{absent(s.key)}"},
	}},
	{Name: "the second key is enough", By: "TestFaults/keys/the_second_lease_is_revoked", Changes: []mutant.Mutant{
		{File: "value.go", Old: "for _, kv := range l.kvs {\n\t\tif kv == nil {\n\t\t\tcontinue", New: "for _, kv := range l.kvs[1:] {\n\t\tif kv == nil {\n\t\t\tcontinue"},
		{File: "store.go", Old: "{absent(s.key), absent(s.alive)}", New: "{absent(s.alive)}"},
	}},
	{Name: "the first TTL counts from the answer", By: "TestFaults/keys/the_owner_gets_late_answers", Changes: []mutant.Mutant{
		{File: "store.go", Old: "From: acq.From}", New: "From: s.Now()}"},
	}},
	{Name: "a renewal does not check the keys", By: "TestFaults/keys/the_first_key_is_deleted$", Changes: []mutant.Mutant{
		{File: "lease.go", Old: "terms[i], err = l.check(ctx)", New: ""},
	}},
	{Name: "a renewal keeps one lease alive", By: "TestFaults/keys/an_owner_stays", Changes: []mutant.Mutant{
		{File: "lease.go", Old: "l.keepAlive(ctx, l.ids[i])", New: "l.keepAlive(ctx, l.ids[0])"},
	}},
	{Name: "a renewal believes a replaced leader", By: "TestRenewWithReplacedLeader", Changes: []mutant.Mutant{
		{File: "lease.go", Old: "err == nil && slices.Min(terms) < terms[len(l.ids)]", New: "slices.Min(terms) < 0"},
	}},
	{Name: "a release deletes whatever is there", By: "TestStore", Changes: []mutant.Mutant{
		{File: "advertise.go", Old: `clientv3.Compare(clientv3.ModRevision(key), "=", l.rev)`, New: `clientv3.Compare(clientv3.ModRevision(key), ">", 0)`},
	}},
	{Name: "a revocation deletes whatever is there", By: "TestRevokeSparesASuccessor", Changes: []mutant.Mutant{
		{File: "revoke.go", Old: `"=", found.kvs[i].ModRevision`, New: `">", 0`},
	}},
	{Name: "a revocation takes the last key away", By: "TestRevokeLeavesTheLastKey", Changes: []mutant.Mutant{
		{File: "revoke.go", Old: ", unchanged(1, s.alive)", New: ""},
	}},
	{Name: "an attempt without an answer keeps what it has won", By: "TestStore/LostAnswer", Changes: []mutant.Mutant{
		{File: "store.go", Old: "undone := s.revoke(context.WithoutCancel(ctx), p, g.ids...)", New: "undone := error(nil)"},
	}},
	{Name: "a late request is given up", By: "TestCall", Changes: []mutant.Mutant{
		{File: "call.go", Old: "answer, err := request(ctx, r)", New: "ctx, cancel := context.WithTimeout(ctx, time.Duration(p))\n\t\t\tdefer cancel()\n\t\t\tanswer, err := request(ctx, r)"},
	}},
	{Name: "all requests take the client's own route", By: "TestFaults/keys/two_of_the_owner", Changes: []mutant.Mutant{
		{File: "call.go", Old: "routes[asked%len(routes)]", New: "routes[0]"},
	}},
	{Name: "all routes lead to one endpoint", By: "TestFaults/keys/two_of_the_owner", Changes: []mutant.Mutant{
		{File: "endpoints.go", Old: "e.client.Dial(name)", New: "e.client.Dial(e.client.Endpoints()[0])"},
	}},
	{Name: "an acquisition believes a replaced leader", By: "TestSlowAcquisition", Changes: []mutant.Mutant{
		{File: "overlap.go", Old: " && slices.Min(terms) == terms[len(l.ids)]", New: " && slices.Max(terms) > 0"},
	}},
	{Name: "an acquisition counts what was not kept", By: "TestSlowAcquisition", Changes: []mutant.Mutant{
		{File: "overlap.go", Old: "if foremost(errs...) == nil && slices.Min(terms) == terms[len(l.ids)]", New: "if errs[len(l.ids)] == nil && slices.Max(terms) == terms[len(l.ids)]"},
	}},
	{Name: "reasons are not told apart", By: "TestWhyEachIsUnreachable", Changes: []mutant.Mutant{
		{File: "unanswered.go", Old: `single[j].endpoint + ": " + reasons[i]`, New: "single[j].reason"},
	}},
	{Name: "a death is not witnessed", By: "TestOwnerIsKilled", Changes: []mutant.Mutant{
		{File: "witness.go", Old: `instance == "" || last.holder != instance`, New: "true"},
	}},
	{Name: "a witness ends whatever is there", By: "TestLateWitness", Changes: []mutant.Mutant{
		{File: "witness.go", Old: "err := s.revoke(ctx, readPatience, leases...); err", New: "found, err := s.read(ctx, readPatience); s.revoke(ctx, readPatience, found.leases()...)"},
	}},
	{Name: "a witness goes on after its watch", By: "TestStoppedWitness", Changes: []mutant.Mutant{
		{File: "watch.go", Old: "unwatch()\n", New: "_ = unwatch\n"},
	}},
	{Name: "a watch continues from what is compacted", By: "TestFaults/keys/what_a_watch_has_missed_is_compacted", Changes: []mutant.Mutant{
		{File: "watch.go", Old: "return 0, begun", New: "return rev, begun"},
	}},
	{Name: "a watch that begins again gives no hint", By: "TestFaults/keys/what_a_watch_has_missed_is_compacted", Changes: []mutant.Mutant{
		{File: "watch.go", Old: "resp.Created && !told ||", New: ""},
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
