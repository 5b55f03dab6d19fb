package run

import (
	"fmt"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
)

// slack is the end of the safety margin, in which a KILL takes effect: when the lease
// expires, no process of the command is left.
func slack(ttl time.Duration) time.Duration { return max(ttl/20, 5*time.Millisecond) }

// DefaultGrace is the grace with which the safety margin is the usual TTL/4.
func DefaultGrace(ttl time.Duration) time.Duration { return max(0, ttl/4-slack(ttl)) }

// margin is the safety margin for a grace. It leaves the usual renewal interval
// of TTL/3 its place, and another TTL/20 for a second try.
func margin(ttl, grace time.Duration) (time.Duration, error) {
	largest := max(0, ttl-ttl/3-ttl/20-slack(ttl)).Truncate(time.Millisecond)
	if grace < 0 || grace > largest {
		return 0, fmt.Errorf("a grace of %v does not fit: with a ttl of %v, 0s to %v does%s", grace, ttl, largest, ttlHint(grace))
	}
	return grace + slack(ttl), nil
}

// longestGrace is the longest with which a ttl is worth a word: sums of more overflow.
const longestGrace = 365 * 24 * time.Hour

// ttlHint is the inequality of margin, solved for the TTL.
func ttlHint(grace time.Duration) string {
	if grace < 0 || grace > longestGrace {
		return ""
	}
	const unit = 100 * time.Millisecond
	least := max(grace*30/17, (grace+slack(0))*60/37) // either side of slack's max
	return fmt.Sprintf("; it needs a ttl of %v", (least + unit).Truncate(unit))
}

// untilKill is how long after a loss the KILL is due at the latest: slack before the
// lease expires, which may have been long ago if this process was stopped.
func untilKill(lost *owner.LostError, ttl time.Duration) time.Duration {
	return untilExpiry(lost, ttl) - slack(ttl)
}

// untilExpiry is how long after a loss the lease still runs.
func untilExpiry(lost *owner.LostError, ttl time.Duration) time.Duration {
	return ttl - lost.SinceRenewal - time.Since(lost.At)
}

// A timebase is the clock that a lease is timed by, as another process reads it
// that watches the time: true is the one that counts the time in which the machine
// is suspended.
//
// Go's timers do not count it, but on Windows, and neither does the time of a
// poll. So this process may be late after a resume; the warden is not.
type timebase bool

func (b timebase) now() time.Duration {
	if b {
		return clock.NowWithSuspend()
	}
	return clock.Now()
}

// longestWait is how long the warden may wait at once. Nothing wakes it up at a resume,
// so it reads the clock from time to time.
func (b timebase) longestWait() time.Duration {
	if b {
		return 50 * time.Millisecond
	}
	return time.Hour // poll counts milliseconds in 32 bits
}

// lastMoment is by when no process of the command may be left if this process does
// nothing any more. It is after the moment at which this process would send KILL itself.
func (b timebase) lastMoment(own *owner.Owner) time.Duration {
	now := b.now() // first: a pause before what follows makes it earlier
	rec := own.Holder()
	return now + time.Until(rec.RenewedAt.Add(rec.TTL)) - slack(rec.TTL)/2
}

// tellExpiry passes on every renewal, until the job is over. It may block without harm.
func tellExpiry(j *job, own *owner.Owner, base timebase, renewed, over <-chan struct{}) {
	for {
		select {
		case <-renewed:
			// A lost lease's record no longer says when it expires.
			if at := base.lastMoment(own); own.IsOwner() {
				j.extend(at)
			}
		case <-own.Done():
			return
		case <-over:
			return
		}
	}
}
