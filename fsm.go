package owner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/looplab/fsm"
)

// transitions is the state machine: the only place that says which event moves
// which state where, and why. docs/state-diagram.md is generated from it.
var transitions = []struct {
	event event
	from  State
	to    State
	why   string
}{
	{evAcquire, StateFollower, StateAcquiring, "The caller wants the lease, or this standby has found it free."},
	{evAcquired, StateAcquiring, StateOwner, "The store has made this instance the owner, and the fence deadline, counted from before the write, has not passed."},
	{evRefused, StateAcquiring, StateFollower, "Another instance owns the lease, or is acquiring it. A standby yields to it, and polls again."},
	{evFailed, StateAcquiring, StateFollower, "The store could not be read or written. The caller of Join gets the error; a standby tries again."},
	{evTooLate, StateAcquiring, StateFollower, "The lease was won, but the answer came after its fence deadline. The win is undone. The caller of Join gets an error; a standby tries again."},
	{evGiveUp, StateAcquiring, StateFollower, "The context has ended, or Join got no answer within TTL - SafetyMargin. A later win is undone."},
	{evHung, StateAcquiring, StateEvicting, "The lease has expired, but its owner's process still exists, and there is Config.Evict, which is now called: the owner still has what the system gave it. Without Config.Evict, the lease is taken."},
	{evEvicted, StateEvicting, StateAcquiring, "Evict has returned nil. Everything is looked at anew: the lease is taken if the owner's process has gone, and not if another instance owns it by now."},
	{evFailed, StateEvicting, StateFollower, "Evict has returned an error, or not returned within a TTL. The caller of Join gets the error; a standby tries again."},
	{evGiveUp, StateEvicting, StateFollower, "The context has ended, and with it that of Evict. What that returns no longer counts."},
	{evRenew, StateOwner, StateRenewing, "The renewal interval has passed, or after an error the pause before a retry, or a hint says that the record may have been removed or replaced."},
	{evRenewed, StateRenewing, StateOwner, "The renewal was confirmed before the old fence deadline. The new deadline counts from before its write."},
	{evRetry, StateRenewing, StateOwner, "The renewal failed, and its outcome is unknown. The deadline does not move; until then the renewal is retried."},
	{evStop, StateRenewing, StateOwner, "The context has ended. The renewal under way no longer counts, and none follows. The ownership lasts until its deadline."},
	{evExpire, StateOwner, StateLost, "The fence deadline has passed without a renewal."},
	{evExpire, StateRenewing, StateLost, "The fence deadline has passed while a renewal was under way. An answer that comes now is too late to count."},
	{evUnhealthy, StateOwner, StateLost, "The work has not been healthy for HealthTimeout. No renewal follows. As after every loss, the lease blocks a successor until it has expired or Release says that the caller has stopped."},
	{evUnhealthy, StateRenewing, StateLost, "The same, while a renewal was under way. Its answer no longer counts."},
	{evTakenOver, StateRenewing, StateLost, "The record is another instance's. Nothing can undo that."},
	{evRevoked, StateRenewing, StateLost, "The lease was revoked, or the record was removed or replaced by something else. Nothing can undo that."},
	{evRelease, StateFollower, StateReleased, "The caller stops the standby."},
	{evRelease, StateAcquiring, StateReleased, "The caller stops the standby. If the attempt under way still wins, the lease is released."},
	{evRelease, StateEvicting, StateReleased, "The caller stops the standby. The context of Evict ends, and what it returns no longer counts."},
	{evRelease, StateOwner, StateReleased, "The caller releases the lease."},
	{evRelease, StateRenewing, StateReleased, "The caller releases the lease. The renewal under way no longer counts; the store sees the release after it."},
}

// An ignoredInput is one row of ignored.
type ignoredInput struct {
	input  inputKind
	states []State
	why    string
}

// ignored lists the inputs that move nothing, with the reason. An input that is neither
// here nor an event of transitions is a bug, and fails closed.
var ignored = []ignoredInput{
	{inputStandBy, []State{StateFollower}, "From now on it polls the lease from time to time, and at every hint."},
	{inputTick, allStates, "Nothing is due yet, or a standby's poll is. The clock decides what is due, not the timer."},
	{inputResult, allStates, "A read has failed or found the lease owned, the operation was abandoned before it answered, or the answer only settles what Release returns."},
	{inputHint, []State{StateFollower, StateAcquiring, StateEvicting, StateOwner, StateRenewing}, "A hint proves nothing. It brings the next poll or renewal forward."},
	{inputHint, []State{StateLost, StateReleased}, "The ownership has ended: there is nothing to poll or renew."},
	{inputRelease, []State{StateFollower}, "A plain follower holds nothing; nor does a standby whose context has ended."},
	{inputRelease, []State{StateLost}, "The ownership has ended already. The call says that the caller has stopped, so what would block a successor until the lease has expired is released."},
	{inputRelease, []State{StateReleased}, "The lease was released before; every caller gets that outcome."},
	{inputHealth, []State{StateOwner, StateRenewing}, "The work is healthy: HealthTimeout counts from now. Or it is not: that is kept as the reason of a loss."},
	{inputHealth, []State{StateFollower, StateAcquiring, StateEvicting, StateLost, StateReleased}, "This instance does not own: it does not matter."},
	{inputAdvertise, []State{StateOwner, StateRenewing}, "The endpoint and the metadata are written into the record. That is no renewal: the deadline stays where it was. If it fails, the next renewal comes at once, and checks the record."},
	{inputAdvertise, []State{StateFollower, StateAcquiring, StateEvicting, StateLost, StateReleased}, "Only an owner advertises. The caller gets an error."},
	{inputHandover, []State{StateOwner, StateRenewing}, "Another instance asks this owner to step down. The caller is told by HandoverRequested. The lease is kept and renewed, and no deadline moves."},
	{inputHandover, []State{StateFollower, StateAcquiring, StateEvicting, StateLost, StateReleased}, "The ownership that was asked for has ended."},
	{inputEnd, []State{StateFollower}, "It is no longer a standby."},
	{inputEnd, []State{StateLost, StateReleased}, "Nothing is being renewed."},
	{inputEnd, []State{StateOwner}, "No renewal is under way, and none follows. The ownership lasts until its deadline."},
}

var allStates = []State{StateFollower, StateAcquiring, StateEvicting, StateOwner, StateRenewing, StateLost, StateReleased}

// timing holds the durations that the decision works with.
type timing struct {
	ttl      time.Duration // from the start of a renewal to the end of what it gives
	margin   time.Duration // how long before that end the owner stops
	interval time.Duration // from the start of a renewal to the start of the next
	pause    time.Duration // from a failed renewal to the next try
	poll     time.Duration // of a standby: the longest time from a read to the next
	rest     time.Duration // of a standby: the same while no hint is known to be missing
	sickness time.Duration // how long the work may go without being healthy; 0: it is not asked
	aside    time.Duration // of a standby: how long it yields to another instance
	head     time.Duration // of a standby: the head start of another that is named as the successor
}

// never is a time that does not come. It leaves room for a clock that begins below
// zero.
const never = time.Duration(math.MaxInt64 / 2)

// core is all that the decision knows, and all that it changes. It is a value:
// no clock, no I/O and no goroutine is behind it.
type core struct {
	timing
	pacing    // of a standby's polls
	handing   // of requests to step down
	state     State
	pending   op            // the operation whose result would count; opNone if none
	lastID    uint64        // the id of the operation issued last
	issued    time.Duration // when the last acquisition or renewal was issued
	validFrom time.Duration // what the present ownership's validity counts from
	failedAt  time.Duration // when the last renewal failed; it counts while failed is set
	failed    bool          // the last renewal failed
	hinted    bool          // something may have happened since the last renewal was issued
	standing  bool          // a standby
	ended     bool          // Join's context has ended: no renewal follows, and no poll
	healthyAt time.Duration // when the work was healthy last, or the ownership began
	sick      error         // what it has answered since, nil if nothing
	late      uint64        // results of abandoned operations
	err       error         // the last error of the store
}

// fence is when the owner stops, expiry when another may start.
func (c *core) fence() time.Duration  { return c.validFrom + c.ttl - c.margin }
func (c *core) expiry() time.Duration { return c.validFrom + c.ttl }

// sickAt is when the owner stops because its work is not healthy.
func (c *core) sickAt() time.Duration {
	if c.sickness == 0 {
		return never
	}
	return c.healthyAt + c.sickness
}

func (c *core) owns() bool { return c.state == StateOwner || c.state == StateRenewing }

// standsBy reports whether this is a standby that polls the lease.
func (c *core) standsBy() bool { return c.state == StateFollower && c.standing && !c.ended }

// renewAt is when the next renewal is due.
func (c *core) renewAt() time.Duration {
	switch {
	case c.hinted:
		return c.issued + min(minPollGap, c.interval)
	case c.failed:
		return c.failedAt + c.pause
	}
	return coalesced(c.issued+c.interval, c.interval/32)
}

// coalesced returns a time up to slack before at, which is the same for as many owners of
// this machine as can be: their timers fire together, and what a renewal costs is then its
// system calls more than the waking of an idle processor.
func coalesced(at, slack time.Duration) time.Duration {
	early := at % max(slack, 1)
	if early < 0 { // a clock that begins below zero
		early += slack
	}
	return at - early
}

// giveUpAt is when Join abandons an acquisition that has not answered: a lease that it
// still won would be over by then. A standby waits for the answer as long as it takes.
func (c *core) giveUpAt() time.Duration {
	if c.standing && c.state == StateAcquiring {
		return never
	}
	return c.issued + c.ttl - c.margin
}

// releaseDeadline is how long a release may take: as long as what it gives back, or
// may have to give back, could last.
func (c *core) releaseDeadline() time.Duration {
	if c.pending.kind == opAcquire {
		return c.giveUpAt()
	}
	return c.expiry()
}

// wake is when something is due next. It is derived from the state each time,
// so that it can neither be stale nor make the actor spin.
func (c *core) wake() time.Duration {
	switch {
	case c.state == StateAcquiring:
		return c.giveUpAt()
	case c.state == StateEvicting:
		return c.evictBy()
	case c.state == StateOwner && !c.ended:
		return min(c.renewAt(), c.fence(), c.sickAt())
	case c.owns():
		return min(c.fence(), c.sickAt())
	case c.state == StateReleased:
		return c.releaseDeadline()
	case c.standsBy() && c.pending.kind == opNone:
		return c.nextPoll()
	}
	return never
}

// A decision is what follows from an input.
type decision struct {
	core
	event event // what moves the state; "" if nothing does
	start op    // the operation to start; opNone if none
}

// decide is the whole behaviour of an Owner as a pure function. It maps a core and an
// input with its time to the next core, the event that moved it, and the operation to
// start. It changes neither of its arguments: they are pointers because thousands of
// actors' stacks would hold the copies.
func decide(c *core, in *input) (d decision) {
	d.core = *c
	d.event = classify(c, in)
	if d.event == "" {
		d.stay(in)
		return d
	}
	to, err := move(c.state, d.event)
	if err != nil {
		d.failClosed(in, err)
		return d
	}
	d.state = to
	d.apply(c.state, in)
	return d
}

// classify returns the event that an input is in the present state, "" for none.
func classify(c *core, in *input) event {
	switch in.kind {
	case inputJoin:
		return evAcquire
	case inputTick:
		return classifyTick(c, in.at)
	case inputResult:
		if c.awaits(in.res.op) && c.state != StateReleased {
			return classifyResult(c, in)
		}
	case inputRelease:
		switch {
		case c.owns() && in.at >= c.fence():
			return evExpire // too late: another may own
		case c.owns() || c.attempts() || c.standsBy():
			return evRelease
		}
	case inputAdvertise, inputHandover:
		if c.owns() && in.at >= c.fence() {
			return evExpire
		}
	case inputEnd:
		switch c.state {
		case StateAcquiring, StateEvicting:
			return evGiveUp
		case StateRenewing:
			return evStop
		}
	}
	return ""
}

// classifyTick asks the clock what is due. The fence comes first: after a pause
// of the whole process a renewal is due as well, and must not be begun.
func classifyTick(c *core, now time.Duration) event {
	switch {
	case c.owns() && now >= c.fence():
		return evExpire
	case c.owns() && now >= c.sickAt():
		return evUnhealthy
	case c.state == StateOwner && !c.ended && now >= c.renewAt():
		return evRenew
	case c.state == StateAcquiring && now >= c.giveUpAt():
		return evGiveUp
	case c.state == StateEvicting && now >= c.evictBy():
		return evFailed
	}
	return ""
}

// awaits reports whether the result of the operation counts.
func (c *core) awaits(o op) bool { return c.pending.kind != opNone && c.pending.id == o.id }

// classifyResult classifies the result of the operation under way.
func classifyResult(c *core, in *input) event {
	res := &in.res
	switch res.op.kind {
	case opLook:
		if res.err == nil && res.view.Free() && !c.leaves(res.turn, in.at, c.head) {
			return evAcquire
		}
	case opAcquire:
		switch {
		case res.err != nil:
			return evFailed
		case res.hung != nil:
			return classifyHung(&res.op, res.hung)
		case !res.won():
			return evRefused
		case in.at >= res.acq.From+c.ttl-c.margin:
			return evTooLate
		}
		return evAcquired
	case opEvict:
		if res.err != nil {
			return evFailed
		}
		return evEvicted
	case opRenew:
		switch {
		case errors.Is(res.err, ErrTakenOver):
			return evTakenOver
		case errors.Is(res.err, ErrRevoked):
			return evRevoked
		case in.at >= c.fence():
			return evExpire // also a success: a challenger that judged the old validity may have taken over
		case res.err != nil:
			return evRetry
		}
		return evRenewed
	}
	return ""
}

// apply makes the changes that go with the event that has just moved the state.
func (d *decision) apply(from State, in *input) {
	if in.kind == inputResult && in.res.err != nil {
		d.err = in.res.err
	}
	awaited := d.pending
	d.pending = op{}
	switch d.event {
	case evAcquire:
		d.issue(opAcquire, in.at)
	case evAcquired:
		d.validFrom, d.err = in.res.acq.From, nil
		d.healthyAt = in.at
	case evRefused:
		d.err = nil
		d.succeeded()
		if in.res.left() {
			d.stepAside(in.at, d.timing.aside)
		} else {
			d.slowDown(d.poll)
		}
	case evHung:
		d.issueFor(in.res.hung, opEvict, in.at)
	case evEvicted:
		d.issueFor(in.res.op.hung, opAcquire, in.at)
	case evFailed:
		d.evictionFailed(from, in)
		d.slowDown(d.poll)
	case evTooLate:
		d.issue(opRelease, in.at)
		d.pending, d.err = op{}, errTooLate // nothing waits for the release
		d.slowDown(d.poll)
	case evGiveUp:
		if d.ended = in.kind == inputEnd; !d.ended {
			d.err = errNoAnswer
		}
	case evRenew:
		d.issue(opRenew, in.at)
	case evRenewed:
		d.validFrom = in.res.op.at
		d.failed, d.err = false, nil
		if d.isToAsk(in.res.hinted, in.res.op.id) {
			d.check = false
			d.lastID++ // beside the renewals
			d.start = op{kind: opAsked, id: d.lastID, at: in.at}
		}
	case evRetry:
		d.failed, d.failedAt = true, in.at
	case evStop:
		d.ended = true
	case evRelease:
		switch from {
		case StateAcquiring:
			d.pending = awaited // it may still win
		case StateOwner, StateRenewing:
			d.issue(opRelease, in.at)
		}
	}
}

// issue starts an operation. Its time is taken before the call: validity that
// counted from its completion would outlast what the others see.
func (d *decision) issue(kind opKind, at time.Duration) {
	d.lastID++
	d.start = op{kind: kind, id: d.lastID, at: at}
	switch kind {
	case opAcquire:
		d.issued, d.looked = at, at
		// If what another instance was acquiring is still free, that one hangs.
		d.start.yields = d.standing && !d.pacing.aside
	case opLook:
		d.looked = at
	case opEvict:
		d.issued = at
	case opRenew:
		d.check = d.check || d.hinted
		d.issued, d.hinted = at, false
	}
	d.pending = d.start
}

// stay takes up an input that moves nothing.
func (d *decision) stay(in *input) {
	if !slices.ContainsFunc(ignored, func(row ignoredInput) bool {
		return row.input == in.kind && slices.Contains(row.states, d.state)
	}) {
		d.failClosed(in, errUnexpected)
		return
	}
	switch in.kind {
	case inputStandBy:
		d.standing, d.err = true, nil
		d.stepAside(d.looked, 0) // to one read, which subscribes: nothing has happened yet
	case inputHint:
		d.hinted = true
		if d.err == nil { // a failed attempt causes hints itself: no reason to fail again at once
			d.hint(in.at, d.timing.aside, d.pending.kind == opLook)
		}
	case inputEnd:
		d.ended = true
	case inputHealth:
		if d.sick = in.sick; d.sick == nil {
			d.healthyAt = in.at
		}
	case inputAdvertise:
		if d.owns() {
			d.lastID++ // beside the renewal under way, whose result still counts
			d.start = op{kind: opAdvertise, id: d.lastID, at: in.at, ad: in.ad}
		}
	case inputHandover:
		d.asked = d.owns()
	case inputResult:
		d.settle(in)
	case inputTick:
		switch {
		case d.standsBy() && d.pending.kind == opNone && in.at >= d.nextPoll():
			d.issue(opLook, in.at)
		case d.state == StateReleased && d.pending.kind != opNone && in.at >= d.releaseDeadline():
			d.pending, d.err = op{}, errReleaseHangs
		}
	}
}

// settle takes up a result that moves nothing.
func (d *decision) settle(in *input) {
	switch in.res.op.kind {
	case opAdvertise:
		d.hinted = d.hinted || in.res.err != nil
		return
	case opAsked:
		d.check = d.check || in.res.err != nil
		return
	}
	if !d.awaits(in.res.op) {
		d.late++
		return
	}
	d.pending, d.err = op{}, in.res.err
	switch in.res.op.kind {
	case opLook: // owned, unknown, or left to another standby
		d.behind, d.far = in.res.behind, in.res.far
		if in.res.hinted {
			d.slowDown(d.rest)
		} else {
			d.slowDown(d.poll)
		}
		if in.res.err == nil {
			d.until = in.res.view.Until
			d.saw(in.res.view.Free(), in.res.turn, in.at)
		}
		if d.waiting { // until the head start is over, unless a hint comes before
			d.backoff = max(minPollGap, d.freeAt+d.head-d.looked)
		}
	case opAcquire: // released meanwhile
		d.err = nil
		if in.res.won() {
			d.validFrom = in.res.acq.From
			d.issue(opRelease, in.at)
		}
	}
}

// failClosed ends in Lost, unless the state is final already: an unforeseen input must
// not leave an owner behind.
func (d *decision) failClosed(in *input, err error) {
	d.err = fmt.Errorf("%w: %v (%q) in state %s: %w", errBug, in.kind, d.event, d.state, err)
	d.event = ""
	if d.state != StateLost && d.state != StateReleased {
		d.state, d.event, d.pending = StateLost, evExpire, op{}
	}
}

// The errors of operations whose answer does not come in time, and of bugs.
var (
	errNoAnswer     = unavailable{errors.New("no answer in time: the store hangs, or a process that is acquiring this lease is stopped")}
	errTooLate      = unavailable{errors.New("the lease was won too late: the store or the machine is slower than the TTL allows")}
	errReleaseHangs = errors.New("no answer before the lease expired")
	errBug          = errors.New("a bug in the state machine, please report it")
	errUnexpected   = errors.New("unexpected input")
)

// fsmPool holds looplab machines between moves. A machine keeps a copy of the whole
// table, more memory than all the rest of an Owner, and no other state outlives a move:
// so thousands of Owners share a few.
var fsmPool = sync.Pool{New: func() any { return newFSM(StateFollower) }}

// newFSM builds the looplab machine from the table. It has no callbacks:
// looplab's may neither ask nor move the machine, and they see nested moves out of order.
func newFSM(initial State) *fsm.FSM {
	var rows fsm.Events
	for _, t := range transitions {
		rows = append(rows, fsm.EventDesc{Name: string(t.event), Src: []string{string(t.from)}, Dst: string(t.to)})
	}
	return fsm.NewFSM(string(initial), rows, nil)
}

// move asks looplab/fsm where the event leads from the state. It is the one way
// from a state to another.
func move(from State, ev event) (State, error) {
	m := fsmPool.Get().(*fsm.FSM)
	defer fsmPool.Put(m)
	m.SetState(string(from))
	// Never the caller's context: a cancelled one wedges the machine for ever
	// (looplab/fsm#115).
	if err := m.Event(context.Background(), string(ev)); err != nil {
		return "", err
	}
	return State(m.Current()), nil
}

// reason returns the table's reason for a move, "" for one that is not in it.
func reason(from State, ev event) string {
	for _, t := range transitions {
		if t.from == from && t.event == ev {
			return t.why
		}
	}
	return ""
}

// Diagram returns the state diagram in Mermaid's notation, drawn from the table
// that the code runs on.
func Diagram() string {
	s, err := fsm.VisualizeForMermaidWithGraphType(newFSM(StateFollower), fsm.StateDiagram)
	if err != nil {
		panic(err) // only for a type of diagram that looplab does not know
	}
	return s + "    lost --> [*]\n    released --> [*]\n"
}
