package owner

import (
	"flag"
	"math"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/explore"
	"github.com/ownerlease/owner/internal/leasename"
)

var (
	exploreAll = flag.Bool("explore", false, "explore each scenario to its end: a million states in all")
	moreTurns  = flag.Int("explore.turns", 0, "explore each scenario with this many more turns: each makes some ten times as many states")
)

const anyTurns = 99

var (
	aliveOfA = leasename.Alive(simLease, simID("A", 0))
	guardOf  = leasename.Guard(simLease)
	lastOf   = leasename.Last(simLease)
)

// The scenarios. A owns in those that say so, B and so on challenge it.
var scenarios = []scenario{
	{name: "a race", challengers: 2, turns: anyTurns},
	{name: "a race of three", challengers: 3, turns: 3},
	{name: "time passes in a race", challengers: 2, until: 3 * tick, turns: 1},
	{name: "a slow owner", owned: true, challengers: 1, until: 4 * tick, turns: 1},
	{name: "a renewal that takes long", owned: true, renewing: true, ttl: 4 * tick, challengers: 1, until: 5 * tick, turns: 2},
	{name: "a slow challenger", owned: true, swift: true, challengers: 1, until: 5 * tick},
	{name: "an owner and two challengers", owned: true, renewing: true, challengers: 2, until: 4 * tick, turns: 1},
	{name: "deaths", owned: true, challengers: 2, crashes: 2, turns: 2},
	{name: "a release", owned: true, challengers: 2, releases: 1, turns: 3},
	{name: "a failing call", owned: true, challengers: 1, failures: 1, until: 4 * tick},
	{name: "a failing call in a race", challengers: 2, failures: 1, turns: 2},
	{name: "the record is removed", owned: true, challengers: 1, tampers: 1, tampering: []tampering{removed(simLease)}, turns: 1, until: 4 * tick},
	{name: "the record of a dead owner is removed", owned: true, challengers: 2, crashes: 1, tampers: 1, tampering: []tampering{removed(simLease)}, turns: 1},
	{name: "the record is cut", owned: true, challengers: 1, tampers: 1, tampering: []tampering{cut(simLease)}, turns: 1, until: 3 * tick},
	{name: "the record is exchanged for a copy", owned: true, challengers: 1, tampers: 1, tampering: []tampering{exchanged(simLease)}, turns: 1, until: 2 * tick},
	{name: "the guard is removed", challengers: 3, tampers: 1, tampering: []tampering{removed(guardOf)}, turns: 2},
	{name: "the guard is removed beside an owner", owned: true, challengers: 2, crashes: 1, tampers: 1, tampering: []tampering{removed(guardOf)}, turns: 2},
	{name: "the alive file is removed", owned: true, challengers: 1, swift: true, tampers: 2, tampering: []tampering{removed(aliveOfA)}, turns: 1, until: 3 * tick},
	{name: "one file is removed after another", owned: true, challengers: 1, tampers: 2, tampering: []tampering{removed(simLease), removed(aliveOfA), removed(guardOf), removed(lastOf)}, turns: 1, until: 2 * tick, wall: true},
	{name: "two files are removed at once", owned: true, swift: true, challengers: 1, tampers: 1, tampering: pairs(simLease, aliveOfA, guardOf, lastOf), turns: 1, until: 3 * tick, wall: true},
	{name: "two files are removed in a race", challengers: 2, tampers: 1, tampering: pairs(simLease, leasename.Alive(simLease, simID("B", 0)), guardOf, lastOf), turns: 2, wall: true},
	{name: "two files are removed after a release", owned: true, renewing: true, until: 2 * tick, ttl: 4 * tick, challengers: 1, releases: 1, tampers: 1, tampering: pairs(simLease, leasename.Alive(simLease, simID("B", 0)), guardOf, lastOf), turns: 1, wall: true},
	{name: "a file and then two are removed", owned: true, swift: true, challengers: 1, tampers: 2, tampering: append(pairs(simLease, aliveOfA, lastOf), removed(lastOf), removed(aliveOfA)), turns: 1, until: 3 * tick},
	{name: "the lease is revoked", owned: true, swift: true, revokes: true, challengers: 1, turns: 1, until: 3 * tick},
	{name: "a revocation that dies", owned: true, swift: true, revokes: true, challengers: 1, crashes: 1, until: 3 * tick},
	{name: "a revocation without its guard", owned: true, revokes: true, challengers: 1, releases: 1, tampers: 1, tampering: []tampering{removed(guardOf)}, turns: 2},
	{name: "an owner of another boot", owned: true, swift: true, challengers: 1, clocks: [2]string{"linux 1 x", "linux 2 x"}, tampers: 1, tampering: []tampering{removed(aliveOfA)}, until: 2 * tick},
	{name: "an owner whose clock is another", owned: true, swift: true, challengers: 2, clocks: [2]string{"linux 1 x", "linux 1 y"}, until: 3 * tick},
	{name: "an advertisement", owned: true, challengers: 1, advertises: 1, until: 3 * tick, turns: 1},
	{name: "an advertisement that fails", owned: true, challengers: 1, advertises: 1, failures: 1, until: 3 * tick},
	{name: "an advertisement and a death", owned: true, challengers: 1, advertises: 1, crashes: 1, turns: 2},
	{name: "an advertisement and a revocation", owned: true, revokes: true, advertises: 1, challengers: 1, releases: 1, turns: 1},
	{name: "standing by", owned: true, challengers: 1, standing: true, crashes: 1, releases: 1, until: 3 * tick},
}

// The real decisions and the real file store, in every order in which the calls of
// their processes can come, as far as the scenario goes.
func TestExplore(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.turns += *moreTurns
			most := 1000 // of them, a part that each run of the tests has time for
			if *exploreAll {
				most = math.MaxInt
			}
			r := explore.Search(most, func(told bool) explore.World { return newSimWorld(s, told) })
			t.Logf("%d states, %d ends, %d runs of up to %d choices, in %v", r.States, r.Ends, r.Runs, r.Deepest, r.Took)
			if r.Err != nil {
				t.Errorf("%v\n%s", r.Err, strings.Join(r.Trace, "\n"))
			}
			if !r.Complete {
				t.Log("there are more: go test -run TestExplore -explore -v .")
			}
		})
	}
}
