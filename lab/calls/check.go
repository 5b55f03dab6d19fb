package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A rule that can be broken.
type rule string

const (
	ruleLost    rule = "lost"    // answered, and not begun and ended once; or by another owner
	ruleTwice   rule = "twice"   // a request that is not to be repeated has begun twice
	ruleBegun   rule = "begun"   // it has begun although the client was told otherwise
	ruleUnknown rule = "unknown" // the outcome is unknown, and nothing explains it
	ruleFailed  rule = "failed"  // it has failed although there are owners
	ruleLate    rule = "late"    // it has begun at an owner after a later one has begun
	ruleForward rule = "forward" // it was forwarded twice
	ruleAddress rule = "address" // it has begun at another owner than it was meant for
)

type violation struct {
	rule rule
	text string
}

// A verdict is what a history comes to.
type verdict struct {
	violations []violation
	repeated   int            // safe and keyed requests that have begun more than once
	unknown    map[string]int // outcomes that are unknown, by transport and by what the journals say
	late       int            // begun after a later owner, in a process that was stopped
	excused    int            // not answered in time, as the whole machine stood still
}

// slack is how long after a fault its effects may come: the lease has to expire.
const slack = ttl + 250*time.Millisecond

// A checker has the history by what is looked for in it.
type checker struct {
	*history
	*verdict
	begun, ended map[string][]entry // by request
	// disturbed are the times, by lease, in which owners lose the lease.
	disturbed map[string][]span
	// halted are the times, by worker, in which it was killed, stopped or not scheduled.
	halted map[string][]span
	lost   map[string]bool // the instances that have lost the lease
	frozen []span
}

type span struct{ from, to time.Duration }

func (s span) meets(from, to time.Duration) bool { return s.from <= to && from <= s.to }

func meetsAny(all []span, from, to time.Duration) bool {
	return slices.ContainsFunc(all, func(s span) bool { return s.meets(from, to) })
}

// check compares what the clients were told with what the servers have done.
func check(h *history) *verdict {
	c := &checker{
		history: h, verdict: &verdict{unknown: map[string]int{}},
		begun: map[string][]entry{}, ended: map[string][]entry{},
		disturbed: map[string][]span{}, halted: map[string][]span{}, lost: map[string]bool{},
	}
	c.index()
	for i := range h.requests {
		c.request(&h.requests[i])
	}
	c.order()
	return c.verdict
}

// freezes are the times in which the clients themselves did not run: the whole machine
// stood still.
func (h *history) freezes() (all []span) {
	for _, e := range h.entries {
		if e.What == paused && e.worker == byDirector {
			all = append(all, span{e.At, e.To})
		}
	}
	return all
}

func (c *checker) index() {
	c.frozen = c.freezes()
	for _, e := range c.entries {
		switch e.What {
		case begun:
			c.begun[e.ID] = append(c.begun[e.ID], e)
		case ended:
			c.ended[e.ID] = append(c.ended[e.ID], e)
		case lost: // its connections may have been closed before it was noted
			c.disturbed[e.lease] = append(c.disturbed[e.lease], span{e.At - slack, e.At + slack})
			c.lost[e.Instance] = true
		case paused:
			if e.worker == byDirector {
				continue
			}
			c.disturbed[e.lease] = append(c.disturbed[e.lease], span{e.At, e.To + slack})
			c.halted[e.worker] = append(c.halted[e.worker], span{e.At, e.To})
		}
	}
	for _, x := range c.faults {
		if x.Loses {
			c.disturbed[x.Lease] = append(c.disturbed[x.Lease], span{x.From, x.To + slack})
		}
		if x.Halts {
			c.halted[x.Worker] = append(c.halted[x.Worker], span{x.From, x.To})
		}
	}
}

func (c *checker) violated(rule rule, r *request, why string) {
	s := fmt.Sprintf("%s %s (%s by %s, from %v to %v): %s, %s", r.Lease, r.ID, r.Kind, r.Way, r.Start, r.End, r.Outcome, why)
	if r.Err != "" {
		s += ": " + r.Err
	}
	for _, e := range slices.Concat(c.begun[r.ID], c.ended[r.ID]) {
		s += fmt.Sprintf("\n\t%v %s at %s, instance %s, epoch %d", e.At, e.What, e.worker, e.Instance, e.Epoch)
	}
	c.violations = append(c.violations, violation{rule, s})
}

func (c *checker) request(r *request) {
	n := len(c.begun[r.ID])
	switch {
	case n > 1 && !r.Kind.repeatable():
		c.violated(ruleTwice, r, fmt.Sprintf("begun %d times", n))
		return
	case n > 1:
		c.repeated++
	}
	switch {
	case r.Way == relayed:
		c.relayed(r)
	case r.Way == stale && n > 0:
		c.violated(ruleAddress, r, "begun")
		return
	}
	switch r.Outcome {
	case answered:
		c.answered(r)
	case noOwner:
		c.noOwner(r)
	case unknown:
		c.unknownOutcome(r)
	case refused:
		if n > 0 {
			c.violated(ruleBegun, r, "begun")
		}
	case cutShort:
		if r.Kind != stream || !c.interrupted(r) {
			c.violated(ruleFailed, r, "and no fault has met it")
		}
	case failed:
		if r.Kind != cancel {
			c.violated(ruleFailed, r, "although there are owners")
		}
	case noNode: // such a connection tells nothing
	}
}

// interrupted reports whether the owner that has begun with the request was killed or
// stopped meanwhile, or has lost the lease. Where none has begun, that can be any owner
// of the lease.
func (c *checker) interrupted(r *request) bool {
	b := c.begun[r.ID]
	if len(b) == 0 {
		return meetsAny(c.disturbed[r.Lease], r.Start, r.End)
	}
	return slices.ContainsFunc(b, func(e entry) bool {
		return c.lost[e.Instance] || meetsAny(c.halted[e.worker], r.Start, r.End)
	})
}

func (c *checker) answered(r *request) {
	by := func(e entry) bool { return e.Instance == r.Instance && e.Epoch == r.Epoch }
	b, e := c.begun[r.ID], c.ended[r.ID]
	switch {
	case !slices.ContainsFunc(b, by) || !slices.ContainsFunc(e, by):
		c.violated(ruleLost, r, fmt.Sprintf("not begun and ended at instance %q, which has answered", r.Instance))
	case !r.Kind.repeatable() && len(e) != 1:
		c.violated(ruleLost, r, fmt.Sprintf("ended %d times", len(e)))
	}
}

func (c *checker) noOwner(r *request) {
	switch {
	case len(c.begun[r.ID]) > 0 && !r.Kind.safe(): // an error says nothing about requests without effect
		c.violated(ruleBegun, r, "begun")
	case r.Kind == cancel:
	case meetsAny(c.frozen, r.Start, r.End):
		c.excused++ // the time to hold it passed, and no owner could answer
	default:
		c.violated(ruleFailed, r, "although there are owners")
	}
}

// unknownOutcome: a request may be begun, and not be in the journal, where its owner has
// ended between the acknowledgement and the handler; or where it was given up on by TCP.
// An owner that steps down does not leave an outcome unknown.
func (c *checker) unknownOutcome(r *request) {
	is, on := "begun", "unix"
	if len(c.begun[r.ID]) == 0 {
		is = "not begun"
	}
	if r.TCP {
		on = "tcp"
	}
	c.unknown[on+", "+is]++
	met := c.interrupted(r)
	switch {
	case r.Kind == cancel && (met || is == "begun" || r.TCP):
	case r.Kind.repeatable() && meetsAny(c.frozen, r.Start, r.End):
		c.excused++
	case r.Kind.repeatable():
		c.violated(ruleFailed, r, "although it can be repeated")
	case !met:
		c.violated(ruleUnknown, r, is+", and no fault has met it")
	}
}

// relayed requests were forwarded before: only the process that they were sent to may
// handle them.
func (c *checker) relayed(r *request) {
	for _, e := range c.begun[r.ID] {
		if e.worker != r.Target {
			c.violated(ruleForward, r, "begun at another process than "+r.Target)
			return
		}
	}
}

// begins are the beginnings of all handlers, in their order.
func (h *history) begins() []entry {
	all := slices.DeleteFunc(slices.Clone(h.entries), func(e entry) bool { return e.What != begun })
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.At, b.At) })
	return all
}

// order looks for handlers that begin after those of a later epoch. One that was paused
// after its check may: it is counted.
func (c *checker) order() {
	type first struct {
		epoch uint64
		at    time.Duration
	}
	highest := map[string]first{}
	for _, e := range c.begins() {
		switch h := highest[e.lease]; {
		case e.Epoch > h.epoch:
			highest[e.lease] = first{e.Epoch, e.At}
		case e.Epoch == h.epoch:
		case meetsAny(c.halted[e.worker], h.at-margin, e.At):
			c.late++
		default:
			c.violations = append(c.violations, violation{ruleLate, fmt.Sprintf("%s %s began at %v at %s, epoch %d; epoch %d had begun at %v",
				e.lease, e.ID, e.At, e.worker, e.Epoch, h.epoch, h.at)})
		}
	}
}

// most is how many violations are printed: a broken library has thousands.
const most = 5

// err lists the violations, nil if there are none.
func (v *verdict) err() error {
	var errs []error
	for i, x := range v.violations {
		if i == most {
			errs = append(errs, fmt.Errorf("and %d more", len(v.violations)-most))
			break
		}
		errs = append(errs, fmt.Errorf("VIOLATED, %s: %s", x.rule, x.text))
	}
	return errors.Join(errs...)
}
