package owner

import "time"

// minPollGap is the shortest time from a look or a renewal to one that a hint asks for,
// so that a storm of hints cannot make a process spin.
const minPollGap = time.Millisecond

// maxPollInterval is the longest time from a look at another's lease to the next,
// for what the hints miss.
func maxPollInterval(ttl time.Duration) time.Duration {
	return min(max(ttl/10, minTTL), time.Second)
}

// maxRestInterval is the same where nothing is known to be missing of the hints.
func maxRestInterval(ttl time.Duration) time.Duration {
	return min(max(ttl/10, minTTL), 3*time.Second)
}

// pacing says when to look at another's lease again: soon after something
// may have happened, then less and less often, and when the lease runs out.
type pacing struct {
	looked  time.Duration // when the last look or attempt was begun
	backoff time.Duration // from there to the next
	until   time.Duration // when the holder's lease runs out, as far as it is known

	behind bool          // another instance is first in line
	far    bool          // and others are behind that one: a hint tells of a successor
	aside  bool          // that one, or another, is to acquire: no hint brings the next look forward
	after  time.Duration // no look comes before, while aside
	missed bool          // a hint came during that look, which may not have seen what it tells
}

// nextPoll is when the next look is due. A lease that was over at the last look and
// still could not be taken is no reason to look again at once.
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

// hurry is for a hint: what it tells of may take a moment to be seen, as the end
// of a process does before its locks are freed.
func (p *pacing) hurry() { p.backoff = minPollGap }

// hint is a hint that came at this time, perhaps while a look was under way.
func (p *pacing) hint(at, pause time.Duration, looking bool) {
	switch {
	case p.aside:
		p.missed = p.missed || looking
	case p.behind && p.far:
		p.stepAside(at, 0) // to one look at the successor
	case p.behind:
		p.stepAside(at, pause)
	default:
		p.hurry()
	}
}

// slowDown is for a look that was in vain. What was told before this instance stepped
// aside can be seen by now: no reason to look again soon.
func (p *pacing) slowDown(poll time.Duration) {
	p.backoff = min(2*p.backoff, poll)
	if p.aside {
		p.backoff, p.aside = poll, false
	}
	if p.missed {
		p.backoff, p.missed = minPollGap, false
	}
}

// stepAside lets another instance acquire. What that does gives hints, and one look
// afterwards is the answer to all of them.
func (p *pacing) stepAside(at, pause time.Duration) {
	p.backoff, p.aside, p.after = minPollGap, true, at+pause
}
