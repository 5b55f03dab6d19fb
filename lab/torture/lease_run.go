package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/history"
	"github.com/ownerlease/owner/internal/leasename"
)

// A leaseRun is one lease, its workers, and what is done to them, one thing after
// another in one goroutine.
type leaseRun struct {
	d          *director
	name       string
	path       string
	backupPath string     // beside the lease's folder, on the same disk
	disk       *disk      // nil: it has no disk of its own
	rng        *rand.Rand // draws what to do
	seeds      *rand.Rand // draws the workers' seeds: how many there are depends on what happens
	workers    []*process
	// contains: every second worker is in its own pid namespace.
	contains bool
	injected []injectedFault
	whom     []string // the processes that the present fault is done to

	epoch   uint64         // the highest that was seen
	pending *pendingDamage // what the last fault of a file may have left
}

// A injectedFault is a fault that was done.
type injectedFault struct {
	fault
	history.Span
	whom []string
	err  error // why it was left out
}

// play plays the faults until the time is over. The first round is played to its
// end, so that each comes once.
func (l *leaseRun) play(ctx context.Context, until time.Duration) error {
	var cards []fault
	for _, f := range l.d.chosen {
		for range f.often {
			if f.kind != ofDisk || l.disk != nil {
				cards = append(cards, f)
			}
		}
	}
	for round, s := range schedule(l.rng, cards) {
		l.rest(s.pause)
		if ctx.Err() != nil || round > 0 && clock.Now() >= until {
			return nil
		}
		if err := l.play1(ctx, s.fault, rand.New(rand.NewPCG(s.seed, 0))); err != nil {
			return fmt.Errorf("%s: %s: %w", l.name, s.fault.name, err)
		}
	}
	return nil
}

// A scene is a pause, a fault, and what all that is random in it comes from.
type scene struct {
	pause time.Duration
	fault fault
	seed  uint64
}

// schedule yields the scenes of round after round without end. Each round has all cards,
// in a new order. It depends only on the generator: so a seed gives the same scenes
// again, whatever happens in them.
func schedule(rng *rand.Rand, cards []fault) iter.Seq2[int, scene] {
	return func(yield func(int, scene) bool) {
		cards := slices.Clone(cards)
		for round := 0; ; round++ {
			rng.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
			for _, f := range cards {
				if !yield(round, scene{between(rng, 0, 100*time.Millisecond), f, rng.Uint64()}) {
					return
				}
			}
		}
	}
}

// patience is how long a fault that cannot be done now is tried. With a library
// that is in order, a lease has an owner most of the time.
const patience = 5 * time.Second

// play1 plays one fault, when it can be done. If that does not come, it is left out.
func (l *leaseRun) play1(ctx context.Context, f fault, rng *rand.Rand) error {
	for begun := clock.Now(); ; l.rest(time.Millisecond) {
		err := errNotNow
		at := clock.Now()
		if f.kind != ofFile && f.kind != ofDisk || l.settled() {
			err = l.do(f, rng)
		}
		late := ctx.Err() != nil || clock.Now()-begun > patience
		if err == nil || errors.Is(err, errNotNow) && late {
			l.injected = append(l.injected, injectedFault{f, history.Span{From: at, To: clock.Now()}, l.whom, err})
			return nil
		}
		if !errors.Is(err, errNotNow) {
			return err
		}
	}
}

func (l *leaseRun) do(f fault, rng *rand.Rand) error {
	l.whom = nil
	if f.kind != ofFile {
		return f.do(l, rng)
	}
	l.look()
	l.pending = &pendingDamage{epoch: l.epoch}
	err := f.do(l, rng)
	if errors.Is(err, errNotNow) {
		l.pending = nil // nothing was done
	}
	return err
}

// beside does another fault while processes are stopped: one of a file, say, which their
// owner does not notice until it is resumed.
func (l *leaseRun) beside(rng *rand.Rand) error {
	f := faults[rng.IntN(len(faults))]
	at := clock.Now()
	if !l.d.chose(f.name) || f.kind == ofStop || f.kind == ofDisk || f.kind == ofFile && !l.settled() {
		return nil
	}
	stopped := l.whom
	defer func() { l.whom = stopped }()
	err := l.do(f, rng)
	if errors.Is(err, errNotNow) {
		return nil
	}
	l.injected = append(l.injected, injectedFault{f, history.Span{From: at, To: clock.Now()}, l.whom, err})
	return err
}

// A pendingDamage is what a fault of a file may have left: two of them within one renewal
// of the owner are more than the library tolerates.
type pendingDamage struct {
	epoch  uint64 // the highest before
	beats  int    // different heartbeats of the same owner since then
	latest time.Time
}

// settled reports whether the files are in order again: a later owner has made
// them anew, or their owner has renewed twice since. Time alone would not show that, as
// the owner may be stopped. The second heartbeat that is seen was begun after the fault,
// and ended before the third.
func (l *leaseRun) settled() bool {
	if l.pending == nil {
		return true
	}
	st, err := owner.Probe(l.path)
	if err != nil || st.Condition != owner.Live || st.Record.Epoch == 0 {
		return false
	}
	for _, name := range []string{leasename.Alive(l.path, st.Record.InstanceID), leasename.Last(l.path)} {
		if _, err := os.Stat(name); err != nil {
			return false
		}
	}
	if st.Record.Epoch == l.pending.epoch && !st.Record.RenewedAt.Equal(l.pending.latest) {
		l.pending.latest = st.Record.RenewedAt
		l.pending.beats++
	}
	if st.Record.Epoch > l.pending.epoch || l.pending.beats >= 3 {
		l.pending = nil
	}
	return l.pending == nil
}

// look returns the record, the zero Record if it cannot be read.
func (l *leaseRun) look() owner.Record {
	rec, err := owner.Inspect(l.path)
	if err != nil {
		return owner.Record{}
	}
	l.epoch = max(l.epoch, rec.Epoch)
	return rec
}

// awaitAnother waits for another owner than the present one.
func (l *leaseRun) awaitAnother() error {
	before := l.look().Epoch
	for begun := clock.Now(); clock.Now()-begun < time.Second; l.rest(time.Millisecond) {
		if l.look().Epoch > before {
			l.pending.epoch = l.epoch
			return nil
		}
	}
	return errNotNow
}

// target picks a worker: mostly the owner.
func (l *leaseRun) target(rng *rand.Rand) int {
	anybody, owners := rng.IntN(len(l.workers)), rng.IntN(3) > 0
	holder := l.look().Meta[owner.EndpointMetaKey]
	if i := slices.IndexFunc(l.workers, func(p *process) bool { return p.name == holder }); owners && i >= 0 {
		anybody = i
	}
	l.whom = append(l.whom, l.workers[anybody].name)
	return anybody
}

// hire starts a worker in a place.
func (l *leaseRun) hire(i int) error {
	t := task{Lease: l.path, Name: l.name, Seed: l.seeds.Uint64()}
	p, err := l.d.startWorker(t, l.contains && i%2 == 1)
	if err == nil {
		l.workers[i] = p
	}
	return err
}

// rest waits this long. The shortest times are shorter than a timer's.
func (l *leaseRun) rest(d time.Duration) {
	until := clock.Now() + d
	if d > 200*time.Microsecond {
		time.Sleep(d)
	}
	for clock.Now() < until {
	}
}

// exponential returns a duration whose order of magnitude is any from one to another.
func exponential(rng *rand.Rand, from, to time.Duration) time.Duration {
	return time.Duration(float64(from) * math.Pow(float64(to)/float64(from), rng.Float64()))
}
