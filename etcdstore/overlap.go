package etcdstore

import (
	"context"
	"slices"
	"time"

	"github.com/ownerlease/owner"
)

// Over a long way, what an acquisition asks for is asked for at the same time.

// readAndGrant reads the lease. Where that takes long, it gets the etcd leases at the same
// time: over a long way, one after the other takes more time than an instance has to
// acquire the lease, of which it owns only the rest.
func (s *store) readAndGrant(ctx context.Context, p patience, claim *owner.Record, g *grants) (found keyPair, granting, err error) {
	read := make(chan struct{})
	early, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := inParallel(2, func(i int) (err error) {
		if i == 1 {
			if late := time.NewTimer(time.Duration(p)); !comesFirst(read, late) {
				return s.grant(early, p, claim, g)
			}
			return nil
		}
		defer close(read)
		if found, err = s.read(ctx, p); err != nil || !found.free() {
			cancel()
		}
		return err
	})
	return found, errs[1], errs[0]
}

// comesFirst reports whether c is closed before the timer fires, which it then stops.
func comesFirst(c <-chan struct{}, t *time.Timer) bool {
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

// putAndKeep is put. Where the grants have taken an eighth of the TTL, as over a long way,
// it keeps the etcd leases alive at the same time, and counts from before that, as Renew
// does: both keys were put after it, and no leader before the one that has put them has
// kept their leases. Else a slow acquisition would leave no time for the first renewal.
func (s *store) putAndKeep(ctx context.Context, l *lease, acq *owner.Acquisition) (found keyPair, err error) {
	at := s.Now()
	if at-acq.From < l.rec.TTL/8 {
		found, _, err = s.put(ctx, l)
		return found, err
	}
	keeping, cancel := context.WithCancel(ctx)
	defer cancel()
	terms := make([]uint64, len(l.ids)+1) // in which each was answered, the put last
	errs := inParallel(len(terms), func(i int) (err error) {
		if i < len(l.ids) {
			terms[i], err = l.keepAlive(keeping, l.ids[i])
			return err
		}
		found, terms[i], err = s.put(ctx, l)
		time.AfterFunc(time.Duration(l.patience), cancel) // what is kept later is not waited for
		return err
	})
	if foremost(errs...) == nil && slices.Min(terms) == terms[len(l.ids)] {
		acq.From = at
	}
	return found, errs[len(l.ids)]
}
