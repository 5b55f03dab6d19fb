package owner

import "time"

// Stats are counts of one Owner, for monitoring: see package metrics. They begin with Join,
// and stay as they were after the end of the ownership.
type Stats struct {
	// Renewals is how many renewals have counted, RenewErrors how many have failed.
	Renewals, RenewErrors uint64
	// RenewTime is how long those that have counted took, all together, and
	// LongestRenewal how long the longest of them.
	RenewTime, LongestRenewal time.Duration
	// LeastSlack is the shortest time that was left before the deadline at which the
	// ownership would have ended when a renewal was confirmed: how close to a loss it
	// was. It is 0 before the first renewal.
	LeastSlack time.Duration
}

// Stats returns what has been counted so far.
func (o *Owner) Stats() Stats { return o.a.snap.Load().stats }

// count counts what has just been decided.
func (s *Stats) count(before *core, d *decision, in *input) {
	switch d.event {
	case evRetry:
		s.RenewErrors++
	case evRenewed:
		took, slack := in.at-in.res.op.at, before.fence()-in.at
		if s.Renewals == 0 || slack < s.LeastSlack {
			s.LeastSlack = slack
		}
		s.Renewals++
		s.RenewTime += took
		s.LongestRenewal = max(s.LongestRenewal, took)
	}
}
