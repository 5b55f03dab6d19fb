//go:build unix

package sqltest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var stops = flag.Int("stops", 210, "how many times an owner is stopped, in all databases together")

// tally is what the stops have met.
type tally struct {
	stops, held, killed, commits int
	at                           [phases]int // of the writers, when their process was stopped
}

// Owners are stopped at random moments, continue when their successor has raised the
// fence, and try to write on. None commits.
func TestStoppedOwners(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			// SQLite's own waiting, with pauses of up to 100 ms, seldom finds the lock
			// free while others write: the workers try again by themselves.
			dsn := strings.Replace(b.fresh(t), "busy_timeout(20000)", "busy_timeout(1)", 1)
			mustExec(t, b.open(t, dsn), journalTable)
			mustExec(t, b.open(t, dsn), "CREATE INDEX by_epoch ON journal (epoch)")
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			n := max(1, *stops/len(backends))
			start := time.Now()
			sum := stopOwners(t, b, dsn, n, random)
			t.Logf("%d stops in %v, seed %d: %d while it held the lock, %d that were killed; %d commits. "+
				"Its writers were between transactions %d times, before or in the check %d, after it %d, committing %d",
				sum.stops, time.Since(start).Round(time.Millisecond), seed, sum.held, sum.killed, sum.commits,
				sum.at[between], sum.at[beginning], sum.at[inside], sum.at[ending])
		})
	}
}

func stopOwners(t *testing.T, b backend, dsn string, n int, random *rand.Rand) (sum tally) {
	db := b.open(t, dsn)
	owner, next := startWorker(t, b, dsn), startWorker(t, b, dsn)
	defer func() { owner.kill(); next.kill() }()
	var before int
	owner.own(t, 1)
	owner.answer(t, "raised 1 %d", &before)
	for epoch := 2; epoch < n+2; epoch++ {
		time.Sleep(time.Duration(random.IntN(4000)) * time.Microsecond)
		owner.stop(t)
		sum.stops++
		for _, phase := range owner.phases {
			sum.at[phase]++
		}
		next.own(t, epoch)
		kill := random.IntN(20) == 0
		awaken := owner.resume
		if kill {
			awaken = owner.kill
			sum.killed++
		}
		form := fmt.Sprintf("raised %d %%d", epoch)
		select {
		case line := <-next.out: // raised, while the owner before is stopped
			next.parse(t, line, form, &before)
			awaken()
		case <-time.After(10 * time.Millisecond): // the owner before holds the lock
			sum.held++
			awaken()
			next.answer(t, form, &before)
		}
		if kill {
			owner = startWorker(t, b, dsn)
		} else {
			var commits int
			owner.answer(t, "fenced %d", &commits)
			sum.commits += commits
		}
		var after int
		if err := persist(func() error { return db.QueryRow(predecessors(uint64(epoch))).Scan(&after) }); err != nil {
			t.Fatal(err)
		}
		if after != before {
			t.Errorf("epoch %d: its predecessor has %d rows, and had %d when the fence had been raised", epoch, after, before)
		}
		owner, next = next, owner
	}
	return sum
}
