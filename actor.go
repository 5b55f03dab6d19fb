package owner

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// An actor is the one goroutine behind an Owner. It takes inputs from its
// mailbox one at a time, lets decide say what follows, publishes its state, and starts
// operations. It does no I/O itself, calls no code of the user's, and waits for nothing
// but its mailbox: a disk that hangs cannot delay the deadline.
type actor struct {
	store  Store
	ttl    time.Duration
	parent context.Context // Join's

	// mailbox has no buffer: a message reaches the actor, or nothing if that has ended
	// (see deliver and release). The timer, armed anew for each wait, and the context's
	// end are channels of their own.
	mailbox chan input

	// loopToken is held by the goroutine that is the actor: Join's caller while it
	// acquires, then the one that polls and renews. After Join's context has ended, the
	// fence timer and Release hold it for a moment each. It is a channel and not a mutex,
	// so that waiting for it can be given up and can be simulated.
	loopToken chan struct{}
	// work runs the calls of the store, which is promised one at a time, and the
	// release after everything else.
	work queue

	hints hints

	// Owned by the holder of loopToken.
	core     core
	claim    *Record // what to acquire with; nil once this is the owner
	lease    Lease
	holder   *Record
	loopDone chan struct{} // closed when the present loop ends: it takes no more messages
	fencing  *time.Timer   // the deadline, once no loop is left to watch it
	holding  *time.Timer   // until when a lost lease is held
	relErr   error         // of the release
	stats    Stats

	// For readers.
	snap      atomic.Pointer[snapshot]
	published signal // of a new snapshot
	ctx       context.Context
	cancel    context.CancelCauseFunc
	elected   chan struct{}
	lost      chan struct{}
	done      chan struct{}
	requested latch // a handover, of this ownership

	notices *notices                    // nil: nothing listens
	healthy func(context.Context) error // nil: the work is not asked
	evictor evictor
}

func newActor(parent context.Context, store Store, claim *Record, t timing, n *notices) *actor {
	a := &actor{
		store:     store,
		ttl:       t.ttl,
		parent:    parent,
		mailbox:   make(chan input),
		loopToken: make(chan struct{}, 1),
		core:      core{timing: t, state: StateFollower},
		claim:     claim,
		holder:    new(Record),
		lost:      make(chan struct{}),
		done:      make(chan struct{}),
		notices:   n,
	}
	_, a.core.offered = store.(HandoverStore)
	a.hints = hints{store: store, given: make(chan struct{}, 1), trouble: a.hintsMissing, named: a.isNamed}
	a.ctx, a.cancel = context.WithCancelCause(parent)
	a.snap.Store(a.snapshot(&a.core, nil))
	return a
}

// join tries once to take the lease, in the caller's goroutine: a plain follower has no
// goroutine.
func (a *actor) join(standby bool) error {
	a.loopToken <- struct{}{}
	a.loop(func() bool { return !a.core.attempts() }, inputJoin)
	if a.core.owns() {
		a.elected = closedChan
		go a.run()
		return nil
	}
	a.elected = make(chan struct{})
	err := a.core.err
	if a.core.ended {
		err = context.Cause(a.parent)
	}
	if standby && err == nil {
		a.hints.standing = true
		go a.run(inputStandBy)
		return nil
	}
	a.cancel(ErrNotOwner)
	a.exit()
	return err
}

// closedChan is closed: thousands of owners share it.
var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// run polls as a standby and renews as an owner, until that role or Join's context ends.
func (a *actor) run(first ...inputKind) { a.begin(a.idle, first...).run() }

// exit gives loopToken back. An ownership whose context has ended needs no goroutine,
// only a timer for its fence.
func (a *actor) exit() {
	if a.core.owns() {
		a.fencing = time.AfterFunc(a.core.fence()-a.store.Now(), a.onFenceTimer)
	}
	<-a.loopToken
	a.hints.end()
	a.notices.then(func() { close(a.done) })
}

// onFenceTimer ends an ownership whose context had ended before.
func (a *actor) onFenceTimer() {
	a.loopToken <- struct{}{}
	defer func() { <-a.loopToken }()
	a.handle(input{kind: inputTick})
	if a.core.owns() { // the timer was early
		a.fencing.Reset(a.core.fence() - a.store.Now())
	}
}

// release releases the lease, and returns when the outcome is known: the loop that has
// taken the request ends then. Where the actor has ended with its context, the caller's
// goroutine takes its place.
func (a *actor) release() error {
	select {
	case a.mailbox <- input{kind: inputRelease}:
		a.loopToken <- struct{}{}
	case a.loopToken <- struct{}{}:
		if a.fencing != nil {
			a.fencing.Stop()
		}
		a.loop(a.idle, inputRelease)
	}
	defer func() { <-a.loopToken }()
	if a.holding != nil && a.holding.Stop() {
		a.releaseStopped() // the caller has stopped: a successor need not wait
	}
	return a.relErr
}

// idle reports whether nothing is left for the actor to wait for.
func (a *actor) idle() bool {
	switch a.core.state {
	case StateFollower:
		return !a.core.standsBy()
	case StateAcquiring, StateEvicting:
		return false
	case StateOwner, StateRenewing:
		return a.core.ended
	}
	return a.core.pending.kind == opNone
}

// A loop takes inputs until rest says that it is over.
type loop struct {
	*actor
	rest  func() bool
	timer *time.Timer
	ended <-chan struct{} // of Join's context; nil once that has been taken
}

// begin handles the first inputs.
func (a *actor) begin(rest func() bool, first ...inputKind) *loop {
	a.loopDone = make(chan struct{})
	for _, kind := range first {
		a.handle(input{kind: kind})
	}
	l := &loop{a, rest, time.NewTimer(time.Hour), a.parent.Done()}
	if a.core.ended {
		l.ended = nil
	}
	return l
}

// loop is a loop in the caller's goroutine.
func (a *actor) loop(rest func() bool, first ...inputKind) {
	l := a.begin(rest, first...)
	defer l.close()
	for !rest() {
		l.step()
	}
}

func (l *loop) close() {
	l.timer.Stop()
	close(l.loopDone)
}

// run is a loop that passes itself on to a fresh goroutine for each long wait. What
// follows a wait needs more than the two KB of stack that a goroutine begins with; with
// thousands of owners, their waiting must not hold on to it.
func (l *loop) run() {
	for !l.rest() {
		l.step()
		if l.core.pending.kind == opNone && !l.rest() {
			go l.run()
			return
		}
	}
	l.close()
	l.exit()
}

// step waits for one input, and handles it.
func (l *loop) step() {
	wait := l.core.wake() - l.store.Now()
	if wait <= 0 { // due already: handling it moves the next wake-up on
		l.handle(input{kind: inputTick})
		return
	}
	l.timer.Reset(wait)
	select {
	case <-l.timer.C:
		l.handle(input{kind: inputTick})
	case in := <-l.mailbox:
		l.handle(in)
	case <-l.hints.given:
		l.handle(input{kind: inputHint})
	case <-l.ended:
		l.ended = nil
		l.handle(input{kind: inputEnd})
	}
}

// handle processes one input: it decides, takes over the result, publishes, logs, and
// starts the operation that follows. The order matters: IsOwner turns false before the
// lease is released, and true only once it is won.
func (a *actor) handle(in input) {
	in.at = a.store.Now()
	before := a.core
	published := a.snap.Load()
	d := decide(&a.core, &in)
	if d.event == evRenewed && (published.expired || !a.snap.CompareAndSwap(published, a.snapshot(&d.core, nil))) {
		// The actor was held up after it read the clock, and a reader has found the fence
		// passed. IsOwner has returned false then, and must not turn true again.
		in.at = a.core.fence()
		d = decide(&a.core, &in)
	}
	a.stats.count(&before, &d, &in)
	a.core = d.core
	own := a.selfID()
	a.learn(&in.res)
	switch {
	case d.event != "":
		a.moved(before.state, &d, own, in.at)
	case a.core.standsBy() && in.kind == inputResult:
		a.publish(nil)
	}
	if d.start.kind != opNone {
		a.start(d.start)
	}
	a.settleAdvertisement(&in)
	a.settleHandover(&before)
	a.tell(&before)
	if before.state == StateReleased && before.pending.kind != opNone && a.core.pending.kind == opNone && a.core.err != nil {
		a.relErr = fmt.Errorf("owner: release: %w: a successor may have to wait until the lease has expired", a.core.err)
	}
}

// selfID is this instance's id.
func (a *actor) selfID() string {
	if a.claim != nil {
		return a.claim.InstanceID
	}
	return a.holder.InstanceID
}

// learn takes over what a result says of the lease.
func (a *actor) learn(res *result) {
	if res.won() {
		a.lease = res.acq.Lease
	}
	switch {
	case res.won() && a.core.owns():
		a.holder = &res.acq.Holder
		a.claim = nil // it has served
	case res.won(): // too late, or released meanwhile: it is given back
		a.claim.InstanceID = uuid.NewString() // the id of an ownership is never used again
	case res.acq != nil:
		a.holder = &res.acq.Holder
	case res.view != nil:
		a.holder = &res.view.Holder
	case res.hung != nil:
		a.holder = &res.hung.Record
	}
}

// tell logs what has changed besides the state.
func (a *actor) tell(before *core) {
	if a.core.late > before.late {
		a.notices.late(a.core.late)
	}
	if a.core.standsBy() && a.core.err != nil && before.err == nil && before.pending.kind == opLook {
		a.notices.trouble("cannot read the lease, and tries again", a.core.err)
	}
}

func (a *actor) hintsMissing(err error) {
	a.notices.trouble("some changes of the lease will be noticed late", err)
}

// moved publishes a move, and does what goes with reaching a final state.
func (a *actor) moved(before State, d *decision, own string, now time.Duration) {
	var lost *LostError
	if a.core.state == StateLost {
		lost = a.lostError(d, now)
	}
	a.publish(lost)
	switch a.core.state {
	case StateOwner:
		if before == StateAcquiring && a.elected != nil { // not within Join
			close(a.elected)
		}
		if before == StateAcquiring && a.healthy != nil {
			go a.askHealth(a.core.interval)
		}
	case StateLost:
		a.cancel(lost)
		close(a.lost)
		a.releaseAtExpiry(now)
	case StateReleased:
		a.cancel(ErrReleased)
	}
	if a.notices == nil {
		return
	}
	t := Transition{From: before, To: a.core.state, Event: string(d.event), At: time.Now(), Epoch: a.holder.Epoch}
	switch d.event {
	case evFailed, evTooLate, evGiveUp, evRetry:
		t.Err = d.err
	}
	if lost != nil {
		t.Err = lost
	}
	a.notices.moved(t, own, a.holder.InstanceID, now-a.core.validFrom)
}

func (a *actor) lostError(d *decision, now time.Duration) *LostError {
	reason, err := ErrExpired, a.core.err
	switch d.event {
	case evTakenOver:
		reason = ErrTakenOver
	case evRevoked:
		reason = ErrRevoked
	case evUnhealthy:
		reason, err = ErrUnhealthy, cmp.Or(a.core.sick, errNoHealth)
	}
	return &LostError{
		Reason: reason, Err: err, At: time.Now(),
		SinceRenewal: now - a.core.validFrom, Epoch: a.holder.Epoch,
	}
}

// releaseAtExpiry frees what a lost lease holds once the lease has expired, not before:
// others take a free alive lock for the owner's death and may own at once, while the
// caller is still within the safety margin that it was given to stop.
func (a *actor) releaseAtExpiry(now time.Duration) {
	switch left := a.core.expiry() - now; {
	case a.lease == nil:
	case left <= 0:
		a.releaseLost()
	default:
		a.holding = time.AfterFunc(left, a.releaseLost)
	}
}

// releaseStopped is releaseLost, and waits for it: the process may end next, and a store
// that is reached over a network would keep the lease until it has expired.
func (a *actor) releaseStopped() {
	done := make(chan struct{})
	a.work.put(func() {
		defer close(done)
		_ = a.giveUp(a.lease)
	})
	expired := time.NewTimer(a.core.expiry() - a.store.Now())
	defer expired.Stop()
	select {
	case <-done:
	case <-expired.C:
	}
}

func (a *actor) releaseLost() {
	a.work.put(func() { _ = a.giveUp(a.lease) }) // the lease is over: nothing depends on it
}

// start calls the store for the actor, outside its goroutine.
func (a *actor) start(o op) {
	gone := a.loopDone
	if o.kind == opEvict {
		a.evictHung(o, gone)
		return
	}
	a.work.put(func() {
		res := result{op: o}
		res.err = a.perform(&res)
		a.deliver(res, gone)
	})
}

// deliver brings a result to the loop that asked. If that loop has ended, the result is
// dropped, but a lease that was won must be released.
func (a *actor) deliver(res result, gone <-chan struct{}) {
	in := input{kind: inputResult, res: res}
	if res.asked {
		in.kind = inputHandover
	}
	select {
	case a.mailbox <- in:
	case <-gone:
		if res.won() {
			_ = a.giveUp(res.acq.Lease) // if this fails, it expires
		}
		if ad := res.op.ad; ad != nil {
			ad.outcome <- res.err
		}
	}
}

// perform makes the store's call.
func (a *actor) perform(res *result) error {
	switch res.op.kind {
	case opAcquire:
		if s, ok := a.store.(lined); ok && res.op.yields && s.acquiring() {
			res.acq = new(Acquisition)
			return nil
		}
		acq, hung, err := a.acquire()
		if res.hung = hung; err != nil || hung != nil {
			return err
		}
		res.acq = &acq
		if res.won() {
			a.hints.lineUp(false)
			a.hints.resubscribe(&acq.Holder)
		}
		return nil
	case opLook:
		view, err := a.hints.readLease(a.ctx)
		if err == nil {
			res.view = &view
			res.behind, res.far = a.hints.behind.Load(), a.hints.farBehind()
			res.hinted = a.hints.areWhole()
			res.turn = a.turnOf(&view)
		}
		return err
	case opRenew:
		res.hinted = a.hints.areWhole()
		return a.lease.Renew(a.ctx, res.op.at)
	case opAsked:
		return a.readHandover(res)
	case opAdvertise:
		return a.writeAdvertisement(res.op.ad.meta)
	}
	return a.giveUp(a.lease)
}

// giveUp releases a lease. The context that it was joined with may have ended,
// and must not keep the lease from being handed over.
func (a *actor) giveUp(l Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.parent), a.ttl)
	defer cancel()
	return l.Release(ctx)
}
