package owner

import "time"

// minPollGap is the shortest time from a poll or a renewal to one that a hint causes, so
// that a storm of hints cannot make a process spin.
const minPollGap = time.Millisecond

// maxPollInterval is the longest time from one poll of another's lease to the next:
// polling finds what the hints miss.
func maxPollInterval(ttl time.Duration) time.Duration {
	return min(max(ttl/10, minTTL), time.Second)
}

// maxRestInterval is the same while no hint is known to be missing.
func maxRestInterval(ttl time.Duration) time.Duration {
	return min(max(ttl/10, minTTL), 3*time.Second)
}

// pacing says when to poll another's lease: soon after it may have changed, then less and
// less often, and when it expires.
type pacing struct {
	looked  time.Duration // when the last read or attempt was begun
	backoff time.Duration // from then to the next
	until   time.Duration // when the holder's lease expires, as far as it is known

	behind bool          // another instance is first in line
	far    bool          // and others follow that one: a hint means a successor
	aside  bool          // that one, or another, is to acquire: no hint brings the next poll forward
	after  time.Duration // no poll comes before, while aside
	missed bool          // a hint came during that read, which may not have seen the change
}

// nextPoll is when the next poll is due. A lease that had expired at the last read and
// still could not be acquired is no reason to poll again at once.
func (p *pacing) nextPoll() time.Duration {
	at := p.looked + p.backoff
	if p.until > p.looked {
		at = min(at, p.until)
	}
	if p.aside {
		at = max(at, p.after)
	}
	return at
}

// hurry is for a hint: its cause may take a moment to become visible, as a process can
// end before its locks are freed.
func (p *pacing) hurry() { p.backoff = minPollGap }

// hint takes a hint that came at this time, perhaps while a read was under way.
func (p *pacing) hint(at, pause time.Duration, looking bool) {
	switch {
	case p.aside:
		p.missed = p.missed || looking
	case p.behind && p.far:
		p.stepAside(at, 0) // to one read, which finds the successor
	case p.behind:
		p.stepAside(at, pause)
	default:
		p.hurry()
	}
}

// slowDown is for a poll that found no free lease. The cause of a hint from before this
// instance stepped aside is visible by now: no reason to poll again soon.
func (p *pacing) slowDown(poll time.Duration) {
	p.backoff = min(2*p.backoff, poll)
	if p.aside {
		p.backoff, p.aside = poll, false
	}
	if p.missed {
		p.backoff, p.missed = minPollGap, false
	}
}

// stepAside lets another instance acquire. Its writes cause hints, and one read
// afterwards answers all of them.
func (p *pacing) stepAside(at, pause time.Duration) {
	p.backoff, p.aside, p.after = minPollGap, true, at+pause
}
