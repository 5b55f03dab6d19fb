package owner

import (
	"context"
	"fmt"

	"github.com/ownerlease/owner/internal/explore"
)

// Eviction in the exploration: the real KillHolder, on a simulated kernel whose pids are
// used again.

// evict is what the challengers of a scenario do to an owner that hangs.
func (s *scenario) evict() func(context.Context, Status) error {
	switch {
	case s.lies:
		return func(context.Context, Status) error { return nil }
	case s.evicts:
		return KillHolder
	}
	return nil
}

// holds notes whether the process that is to be killed, and cannot be exchanged any more,
// holds its alive lock at this moment.
func (w *simWorld) holds(by, of *explore.Process) {
	l, ok := w.of(of).lease()
	w.of(by).saw = ok && explore.Held(l.alive)
}

// of returns the instance of a process, nil for one that has nothing to do with the lease.
func (w *simWorld) of(p *explore.Process) *simProcess {
	for _, i := range w.all {
		if i.p == p {
			return i
		}
	}
	return nil
}

// kills judges a kill: it must be of an owner that has let its lease expire, and that still
// held its alive lock after it was identified. (It can release that at any later moment:
// no process can keep it from doing so.) What else has its pid is not to be killed.
func (w *simWorld) kills(killer, victim *explore.Process) {
	w.k.Note("! %s kills %s", killer.Name, victim.Name)
	i := w.of(victim)
	switch {
	case i == nil || !i.owned:
		w.wrong = fmt.Errorf("%s kills %s", killer.Name, victim.Name)
	case w.k.Now() < i.a.core.expiry():
		w.wrong = fmt.Errorf("%s kills %s at %d; its lease lasts until %d", killer.Name, i.name, w.k.Now()/tick, i.a.core.expiry()/tick)
	case !w.of(killer).saw:
		w.wrong = fmt.Errorf("%s kills %s, which did not hold its alive lock any more when it was identified", killer.Name, i.name)
	}
}

// bury takes note of those that were killed by others.
func (w *simWorld) bury() {
	for _, i := range w.all {
		if i.p.Dead() && !i.crashed {
			i.crashed, i.freed, i.busy, i.results = true, true, 0, nil
		}
	}
}

// spares checks that a new owner that is to evict those that hang has done so: none of
// them holds its alive lock, but one that has said that it has stopped.
func (w *simWorld) spares(i *simProcess) {
	if i.a.evictor.evict == nil {
		return
	}
	for _, other := range w.all {
		if l, ok := other.lease(); ok && other != i && !other.freed && explore.Held(l.alive) {
			w.wrong = fmt.Errorf("%s owns while the process of %s holds its alive lock", i.name, other.name)
		}
	}
}

func (i *simProcess) lease() (*fileLease, bool) {
	if i == nil || i.a == nil || i.a.lease == nil {
		return nil, false
	}
	l, ok := i.a.lease.(*fileLease)
	return l, ok
}

// offerReuse: the pid of an owner that was ended can become another's.
func (w *simWorld) offerReuse() {
	if w.reuses == 0 || w.ticked {
		return
	}
	for _, i := range w.all {
		if i.p.Dead() && i.owned {
			w.may(nil, func() {
				w.reuses--
				w.k.Note("! %s is started", w.k.Reuse(i.p).Name)
			})
		}
	}
}
