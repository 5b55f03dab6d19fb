package owner

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/explore"
	"github.com/ownerlease/owner/internal/leasename"
)

var (
	exploreAll = flag.Bool("explore", false, "explore each scenario to its end: six million states in all")
	moreTurns  = flag.Int("explore.turns", 0, "explore each scenario with this many more turns: each makes some ten times as many states")
)

const anyTurns = 99

var (
	aliveOfA = leasename.Alive(simLease, simID("A", 0))
	guardOf  = leasename.Guard(simLease)
	lastOf   = leasename.Last(simLease)
)

// A tampering is a change of a file that none of the processes makes.
type tampering struct {
	what, path string
	do         func(k *explore.Kernel, path string)
}

func removed(path string) tampering {
	return tampering{"removes", path, (*explore.Kernel).Unlink}
}

// pairs removes any two of the files at once.
func pairs(paths ...string) (all []tampering) {
	for i, one := range paths {
		for _, other := range paths[i+1:] {
			all = append(all, tampering{"removes " + other + " and", one, func(k *explore.Kernel, _ string) {
				k.Unlink(one)
				k.Unlink(other)
			}})
		}
	}
	return all
}

func cut(path string) tampering { return tampering{"cuts", path, (*explore.Kernel).Truncate} }

// exchanged puts a copy of the file, as it is now, in its place.
func exchanged(path string) tampering {
	return tampering{"puts a copy in the place of", path, (*explore.Kernel).Copy}
}

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
	{name: "an unhealthy owner", owned: true, sick: true, challengers: 1, releases: 1, until: 3 * tick, turns: 1},
	{name: "an advertisement", owned: true, challengers: 1, advertises: 1, until: 3 * tick, turns: 1},
	{name: "an advertisement that fails", owned: true, challengers: 1, advertises: 1, failures: 1, until: 3 * tick},
	{name: "an advertisement and a death", owned: true, challengers: 1, advertises: 1, crashes: 1, turns: 2},
	{name: "an advertisement and a revocation", owned: true, revokes: true, advertises: 1, challengers: 1, releases: 1, turns: 1},
	{name: "a hung owner is evicted", owned: true, hangs: true, evicts: true, challengers: 1, crashes: 1, reuses: 1, turns: 1},
	{name: "two evict a hung owner", owned: true, hangs: true, evicts: true, challengers: 2, turns: 1},
	{name: "an eviction of an owner that may renew", owned: true, swift: true, evicts: true, challengers: 1, until: 3 * tick},
	{name: "an eviction that does nothing", owned: true, swift: true, evicts: true, lies: true, challengers: 1, until: 3 * tick, turns: 1},
	{name: "a request to step down", owned: true, swift: true, asks: "B", challengers: 1, standing: true, until: 3 * tick},
	{name: "a request that dies", owned: true, swift: true, asks: "B", challengers: 1, standing: true, crashes: 1, until: 3 * tick},
	{name: "a request and a death", owned: true, swift: true, asks: "C", challengers: 1, crashes: 1, failures: 1},
	{name: "a standby", owned: true, challengers: 1, standing: true, crashes: 1, releases: 1, until: 3 * tick},
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

// elected checks a new owner against all that were.
func (w *simWorld) elected(i *simProcess) {
	if i.owned = true; w.k.Now() >= i.a.core.fence() {
		return // it is no valid owner at any instant
	}
	if e := i.a.holder.Epoch; e <= w.epoch {
		w.wrong = fmt.Errorf("%s owns with epoch %d after epoch %d", i.name, e, w.epoch)
	} else {
		w.epoch = e
	}
	w.spares(i)
	for _, other := range w.all {
		if other == i || !other.owned || other.freed {
			continue
		}
		end := other.end
		if other.a.core.owns() {
			end = other.a.core.fence()
		}
		if w.k.Now() < end+simMargin {
			w.wrong = fmt.Errorf("%s owns at %d; %s was valid until %d and the margin is %d",
				i.name, w.k.Now()/tick, other.name, end/tick, simMargin/tick)
		}
	}
}

// Check checks the guarantee: there are never two valid owners, and no process is one for
// longer than its own file proves.
func (w *simWorld) Check() error {
	if w.wrong != nil {
		return w.wrong
	}
	var valid *simProcess
	for _, i := range w.all {
		if i.a != nil && i.a.core.asked && i.name != "A" {
			return fmt.Errorf("%s is asked to step down, and A was meant", i.name)
		}
		if !i.valid {
			continue
		}
		if valid != nil {
			return fmt.Errorf("%s and %s own at the same time", valid.name, i.name)
		}
		valid = i
		rec, err := decodeRecord(explore.Whole(i.a.lease.(*fileLease).file))
		if err != nil {
			return fmt.Errorf("%s owns without a record of its own: %w", i.name, err)
		}
		if w.k.Now() >= rec.Heartbeat+w.ttl-simMargin {
			return fmt.Errorf("%s owns at %d, and its record, with heartbeat %d, does not prove it", i.name, w.k.Now()/tick, rec.Heartbeat/tick)
		}
	}
	return nil
}

// AtEnd lets all operations end, without further faults, and demands that one instance
// comes to own.
func (w *simWorld) AtEnd() error {
	w.k.Note("--- all continue")
	w.crashes, w.failures, w.releases, w.tampers, w.advertises = 0, 0, 0, 0, 0
	w.reuses = 0
	slices.SortStableFunc(w.all, func(i, j *simProcess) int { // a writer has done so first
		return int(bits(j.p.InWrite())) - int(bits(i.p.InWrite()))
	})
	for _, i := range w.all {
		i.p.Free(true)
		if waits, _ := i.p.Pending(); waits {
			i.step(explore.Done)
		}
	}
	var last *simProcess
	newcomer := w.k.NewProcess("N")
	newcomer.Free(true)
	files := &fileStore{process: &process{host: newcomer}, path: simLease}
	for try := range 4 * int(w.ttl/tick) {
		w.k.Advance(tick)
		for _, i := range w.all {
			i.settle()
			w.bury()
			i.valid = i.a != nil && !i.crashed && i.a.owns()
		}
		if w.wrong != nil {
			return w.wrong
		}
		if err := w.Check(); err != nil {
			return err
		}
		if last == nil || last.gone {
			last = w.add("N", false)
			last.p, last.files = newcomer, files
			last.a.store = simStore{files, w}
			last.a.claim.InstanceID = simID("N", try)
			last.begin()
			last.settle()
		}
	}
	for _, i := range w.all {
		if i.a != nil && !i.crashed && i.a.owns() {
			return nil
		}
	}
	return errors.New("none comes to own")
}

// settle has an instance do all that it can do at this time.
func (i *simProcess) settle() {
	for !i.crashed && i.begun && i.a != nil {
		switch {
		case len(i.results) > 0:
			i.takeUp()
		case !i.gone && i.a.core.wake() <= i.w.k.Now():
			i.handle(input{kind: inputTick})
		case i.held && i.w.k.Now() >= i.a.core.expiry():
			i.letGo()
		default:
			return
		}
	}
}

func (w *simWorld) Trace() []string {
	for n, line := range w.k.Trace {
		w.k.Trace[n] = shortNames(line)
	}
	return w.k.Trace
}

// shortNames makes a line of a trace readable.
func shortNames(line string) string {
	for _, name := range []string{"A", "B", "C", "D", "N"} {
		line = strings.ReplaceAll(line, simID(name, 0), name)
		line = strings.ReplaceAll(line, strings.TrimRight(simID(name, 0), "0"), name+"'")
	}
	return strings.ReplaceAll(line, "/d/", "")
}

// showContent describes a file's content in a few words.
func showContent(b []byte) string {
	if rec, err := decodeRecord(b); err == nil {
		s := fmt.Sprintf("the record of %s, epoch %d, heartbeat %d", rec.InstanceID, rec.Epoch, rec.Heartbeat/tick)
		if rec.Released {
			s += ", released"
		}
		if rec.Revoked {
			s += ", revoked"
		}
		return s
	}
	if len(b) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%.40q", strings.TrimSpace(strings.Trim(string(b), "\x00")))
}

// The traces: one run of a scenario up to a moment, in the terms of the state diagram.
// They are for readers, and show a change of the protocol in a review.
var traces = []struct {
	file, scenario, title string
	turns                 int // at most: fewer are found sooner
	until                 func(w *simWorld) bool
}{
	{"kill", "deaths", "An owner is killed, and a challenger owns.", 0, func(w *simWorld) bool {
		return w.all[0].crashed && w.all[1].valid && w.crashes == 1
	}},
	{"hang", "a slow owner", "An owner hangs, and a challenger owns when its lease has expired.", 0, func(w *simWorld) bool {
		return w.all[1].valid && w.all[0].a.core.state == StateLost
	}},
	{"revocation", "the lease is revoked", "A lease is revoked, and its owner notices at its renewal.", 0, func(w *simWorld) bool {
		return errors.Is(w.all[0].a.core.err, ErrRevoked)
	}},
	{"removed-guard", "the guard is removed", "The guard is removed while a challenger holds it. Another makes a new one, and owns.", 2, func(w *simWorld) bool {
		return w.tampers == 0 && w.all[1].valid && w.all[0].busy > 0
	}},
	{"two-files", "two files are removed at once", "A user removes two files of a live lease at once. Its owner is fenced before a challenger owns.", 1, func(w *simWorld) bool {
		return w.tampers == 0 && w.all[1].valid && errors.Is(w.all[0].a.core.err, ErrRevoked)
	}},
	{"late-win", "time passes in a race", "A challenger is paused while it acquires the lease. Its win comes too late, and makes no owner.", 0, func(w *simWorld) bool {
		return slices.ContainsFunc(w.all, func(i *simProcess) bool { return errors.Is(i.a.core.err, errTooLate) })
	}},
}

var errReached = errors.New("reached")

// A tracedWorld ends its search where a trace is to end.
type tracedWorld struct {
	*simWorld
	until func(w *simWorld) bool
}

func (w tracedWorld) Check() error {
	if err := w.simWorld.Check(); err != nil {
		return err
	}
	if w.until(w.simWorld) {
		return errReached
	}
	return nil
}

const tracesHead = `%s

L is the record, L.lock the guard, L.A.alive the alive file of the process A, L.last the
second name of the last owner's. %s

"A: tick -> renewing" is what A's actor has taken up, and the state that it is in then:
see docs/state-diagram.md. The TTL is %d; the renewal interval and the safety margin are 1.
The scenario is "%s".

`

func TestTraces(t *testing.T) {
	for _, tr := range traces {
		t.Run(tr.file, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == tr.scenario })
			s := scenarios[i]
			s.turns = min(s.turns, tr.turns)
			r := explore.Search(math.MaxInt, func(told bool) explore.World { return tracedWorld{newSimWorld(s, told), tr.until} })
			t.Logf("%d states", r.States)
			if !errors.Is(r.Err, errReached) {
				t.Fatalf("never came to it: %v", r.Err)
			}
			ttl := s.ttl
			if ttl == 0 {
				ttl = 3 * tick
			}
			begin := "No process owns at the beginning."
			if s.owned {
				begin = "A owns at the beginning."
			}
			got := fmt.Sprintf(tracesHead, tr.title, begin, ttl/tick, s.name) + strings.Join(r.Trace, "\n") + "\n"
			path := filepath.Join("testdata", "traces", tr.file+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s; if that is meant, run go test -run TestTraces . -update:\n%s", path, got)
			}
		})
	}
}
