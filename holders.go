package owner

import (
	"context"
	"iter"
	"maps"
)

// Holders yields who owns the lease, as this instance knows it: first as it is, and then
// each new owner and each advertisement (see [Owner.Advertise]), until ctx ends, the caller
// leaves the loop, or this instance is no longer a standby or the owner. The zero Record
// says that no instance is known to own it; after the end of an own ownership, it is the
// last that is yielded. A slow caller gets the newest, and may miss owners in between.
//
// It reads nothing itself, so it costs next to nothing, and is as new as the last read of
// this instance. A follower that is no standby reads no more: its record is yielded once.
func (o *Owner) Holders(ctx context.Context) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		var last Record
		told, ended, done := false, false, o.a.done
		for {
			changed := o.a.published.next() // before the snapshot: none is missed
			s := o.a.snap.Load()
			if holder := s.owner(); !told || news(&last, &holder) {
				told, last = true, holder
				holder.Meta = maps.Clone(holder.Meta) // the caller may change it
				if !yield(holder) {
					return
				}
			}
			if s.final() || ended && !s.owns() {
				return
			}
			select {
			case <-changed:
			case <-done:
				ended, done = true, nil
			case <-ctx.Done():
				return
			}
		}
	}
}
