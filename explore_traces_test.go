package owner

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/explore"
)

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
