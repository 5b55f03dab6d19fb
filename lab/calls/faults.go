package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
)

// A fault is what is done to an owner.
type fault struct {
	name  string
	often int // in each round of all faults
	// halts: its process is killed or stopped. loses: it loses the lease, or may. Both cut
	// off requests that have begun.
	halts, loses bool
	do           func(*leaseRun, context.Context, *process, *rand.Rand) error
}

var faults = []fault{
	{"kill", 3, true, true, (*leaseRun).kill},
	{"stop, shorter than the TTL", 1, true, true, (*leaseRun).stopShortly},
	{"stop, longer than the TTL", 2, true, true, (*leaseRun).stopLong},
	{"release", 2, false, false, (*leaseRun).release},
	{"unhealthy", 1, false, true, (*leaseRun).sicken},
	{"revoke", 1, false, true, (*leaseRun).revoke},
	{"replace", 2, false, false, (*leaseRun).replace},
	{"handover", 2, false, false, (*leaseRun).handOver},
}

// An injected fault is one that was done.
type injected struct {
	Fault  string
	Halts  bool
	Loses  bool
	Lease  string
	Worker string
	From   time.Duration
	To     time.Duration
}

// play injects one fault after another, in rounds of all, until ctx ends.
func (l *leaseRun) play(ctx context.Context) error {
	var cards []fault
	for _, f := range faults {
		for range f.often {
			if (canStop || f.name[:4] != "stop") && (l.d.fault == "" || l.d.fault == f.name) {
				cards = append(cards, f)
			}
		}
	}
	for {
		l.rng.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
		for _, f := range cards {
			wait(ctx, between(l.rng, 50*time.Millisecond, 400*time.Millisecond))
			if ctx.Err() != nil {
				return nil
			}
			if err := l.inject(ctx, f); err != nil {
				return fmt.Errorf("%s: %s: %w", l.name, f.name, err)
			}
		}
	}
}

// inject does it to the owner, for which it waits.
func (l *leaseRun) inject(ctx context.Context, f fault) error {
	rng := rand.New(rand.NewPCG(l.rng.Uint64(), 0)) // what is drawn before depends on nothing that happens
	p := l.owner()
	for limit := clock.Now() + patient; p == nil; p = l.owner() {
		if ctx.Err() != nil {
			return nil
		}
		if clock.Now() > limit {
			return fmt.Errorf("no owner within %v", patient)
		}
		wait(ctx, time.Millisecond)
	}
	x := injected{Fault: f.name, Halts: f.halts, Loses: f.loses, Lease: l.name, Worker: p.Worker, From: clock.Now()}
	err := f.do(l, ctx, p, rng)
	x.To = clock.Now()
	l.faults = append(l.faults, x)
	return err
}

// kill ends the process, and starts another a moment later, as a supervisor does: starting
// one takes the processor from the standby that takes over.
func (l *leaseRun) kill(ctx context.Context, p *process, _ *rand.Rand) error {
	p.kill()
	l.dismiss(p)
	wait(ctx, 50*time.Millisecond)
	return l.hire()
}

func (l *leaseRun) stopShortly(_ context.Context, p *process, rng *rand.Rand) error {
	return stop(p, between(rng, time.Millisecond, ttl/2))
}

func (l *leaseRun) stopLong(_ context.Context, p *process, rng *rand.Rand) error {
	return stop(p, between(rng, ttl, 2*ttl))
}

// stop stops a process for so long, even if the run ends meanwhile.
func stop(p *process, long time.Duration) error {
	p.stop()
	time.Sleep(long)
	p.resume()
	return nil
}

// release has the owner step down and end.
func (l *leaseRun) release(_ context.Context, p *process, _ *rand.Rand) error {
	l.dismiss(p)
	p.leave()
	err := p.await(2 * drain)
	return errors.Join(err, l.hire())
}

// replace starts another before.
func (l *leaseRun) replace(ctx context.Context, p *process, rng *rand.Rand) error {
	err := l.hire()
	wait(ctx, between(rng, 0, 100*time.Millisecond))
	l.dismiss(p)
	p.leave()
	return errors.Join(err, p.await(2*drain))
}

// handOver asks the owner to step down, and waits until it has. It may come back.
func (l *leaseRun) handOver(ctx context.Context, p *process, _ *rand.Rand) error {
	before, err := owner.Inspect(l.path)
	if err != nil || before.PID != p.pid() {
		return nil // it owns no longer
	}
	err = owner.RequestHandover(ctx, owner.Config{LeasePath: l.path}, "")
	switch {
	case errors.Is(err, owner.ErrNoHolder), errors.Is(err, owner.ErrUnavailable), ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	for limit := clock.Now() + 2*drain; wait(ctx, time.Millisecond); {
		if now, err := owner.Inspect(l.path); err == nil && (now.Released || now.InstanceID != before.InstanceID) {
			return nil
		}
		if clock.Now() > limit {
			return fmt.Errorf("%s has not stepped down within %v", p.Worker, 2*drain)
		}
	}
	return nil
}

func (l *leaseRun) sicken(ctx context.Context, p *process, _ *rand.Rand) error {
	if err := p.tell("sick"); err != nil {
		return err
	}
	wait(ctx, unwell)
	return nil
}

func (l *leaseRun) revoke(ctx context.Context, _ *process, _ *rand.Rand) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient)
	defer cancel()
	if _, err := owner.Revoke(ctx, l.path); err != nil && !errors.Is(err, owner.ErrUnavailable) {
		return err
	}
	return nil
}

// between returns a duration from one to another.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)+1))
}
