package owner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ownerlease/owner/internal/explore"
)

// The world that is explored: instances, each in its own process, whose real actors and
// real file stores run on a simulated kernel. What can happen next is a system call of
// one of them, an answer or a timer that its actor takes up, a tick of the clock, or one
// of the faults that the scenario allows. Pauses are included: what is not chosen is
// paused.
//
// Time goes by the hour, as no timer of the real runtime may come in between.

const (
	tick      = time.Hour
	simMargin = tick
	simLease  = "/d/L"
)

// A scenario says which processes take part, and which faults may happen.
type scenario struct {
	name        string
	owned       bool // one owns at the start
	renewing    bool // its renewal is under way, and has been for a tick
	challengers int
	standing    bool          // the challengers are standbys
	revokes     bool          // another process takes the lease away
	asks        string        // another process asks the owner to step down, for the one with this name
	until       time.Duration // the clock runs up to here
	wall        bool          // and that on the wall does, too
	ttl         time.Duration // 3 ticks if it does not say
	swift       bool          // the owner's renewals take one step
	sick        bool          // the owner's work is not healthy for two ticks
	turns       int           // how often another runs while one is between two calls
	clocks      [2]string     // the clock domain of the owner, and that of the others
	hangs       bool          // the owner's lease has expired, and it has not noticed
	evicts      bool          // the challengers kill an owner that hangs
	lies        bool          // what they do instead does nothing, and returns nil

	// How often each may happen in one run.
	crashes, failures, releases, tampers, advertises int

	reuses    int         // how often a process that ends has its pid used again
	tampering []tampering // with what: the next one comes when the owner has renewed
}

type simWorld struct {
	scenario
	advertising bool // an owner may advertise, or has
	k           *explore.Kernel
	all         []*simProcess
	last        *simProcess // the one that has moved last
	ticked      bool        // the clock was the last that has moved
	unmended    bool        // since a file was tampered with, no owner has renewed
	choices     []choice
	epoch       uint64 // of the last one that was elected
	wrong       error  // what is wrong with the last move
	closed      chan struct{}
}

type choice struct {
	who *simProcess // nil: none of the instances
	do  func()
}

// An instance is a process that has joined, that takes the lease away, or that asks its
// owner to step down.
type simProcess struct {
	w     *simWorld
	name  string
	p     *explore.Process
	files *fileStore
	a     *actor // nil for a process that revokes the lease, or requests a handover

	begun    bool
	crashed  bool
	busy     int // operations that have not answered
	finished chan struct{}
	ids      int      // that it has had before
	gone     bool     // the actor's loop has ended
	results  []answer // that the actor has not taken up

	valid bool          // IsOwner is true
	owned bool          // ever
	end   time.Duration // of its validity, when it was lost
	freed bool          // released, or said to have stopped, or dead
	held  bool          // a lost lease is still to be released
	saw   bool          // the process that it is about to kill held its alive lock when it was identified

	mending bool // its renewal has begun after a file was tampered with
}

type answer struct {
	input
	seen uint64 // what the store has learned until then
}

// simStore is the file store without hints, and with the actor's clock, which needs no
// system call. Where there are requests, it says that there are no hints, so that an owner
// reads after each renewal whether it is asked.
type simStore struct {
	*fileStore
	w *simWorld
}

func (s simStore) Now() time.Duration { return s.w.k.Now() }

func (s simStore) Watch(Record, func()) (func(), error) {
	if s.w.asks != "" {
		return nil, errors.New("no hints")
	}
	return func() {}, nil
}

func newSimWorld(s scenario, told bool) *simWorld {
	w := &simWorld{scenario: s, advertising: s.advertises > 0, k: explore.NewKernel(), closed: make(chan struct{})}
	if w.ttl == 0 {
		w.ttl = 3 * tick
	}
	w.k.Record, w.k.Show, w.k.WallGoes = told, showContent, s.wall
	if s.owned {
		o := w.add("A", false)
		if s.sick {
			o.a.core.sickness = 2 * tick
		}
		o.p.Domain = s.clocks[0]
		o.p.Free(true)
		o.begin()
		o.settle()
		o.p.Free(false)
		if s.hangs {
			w.k.Advance(w.ttl)
		}
		if s.renewing {
			w.k.Advance(tick)
			o.handle(input{kind: inputTick})
			w.k.Advance(tick)
		}
	}
	for i := range s.challengers {
		c := w.add(string(rune('B'+i)), s.standing)
		c.p.Domain = s.clocks[1]
		c.a.evictor.evict = s.evict()
	}
	w.k.OnHeld, w.k.OnKill = w.holds, w.kills
	if s.revokes || s.asks != "" {
		w.add("R", false).a = nil
	}
	w.k.Trace = nil
	w.offer()
	return w
}

// simID is the id of an instance: a UUID that shows its name, and its number within its
// process.
func simID(name string, nth int) string {
	switch name { // letters that a UUID can have
	case "N":
		name = "E"
	case "R":
		name = "F"
	}
	return strings.ReplaceAll("xxxxxxxx-xxxx-4xxx-8xxx-", "x", strings.ToLower(name)) + fmt.Sprintf("%012d", nth)
}

func (w *simWorld) add(name string, standing bool) *simProcess {
	p := w.k.NewProcess(name)
	files := &fileStore{process: &process{host: p}, path: simLease}
	i := &simProcess{w: w, name: name, p: p, files: files, finished: make(chan struct{})}
	t := timing{ttl: w.ttl, margin: simMargin, interval: tick, pause: tick, poll: tick, rest: tick}
	i.a = newActor(context.Background(), simStore{files, w}, &Record{InstanceID: simID(name, 0), PID: p.PID(), TTL: w.ttl}, t, nil)
	i.a.core.standing = standing
	i.a.elected = make(chan struct{})
	i.a.loopDone = make(chan struct{})
	w.all = append(w.all, i)
	return i
}

// offer lists what can happen next. First what continues the operation under way, so that
// a run has few turns and its trace is short. After a tick of the clock, only what reads
// the clock: anything else could as well have come before the tick.
func (w *simWorld) offer() {
	w.choices = w.choices[:0]
	if w.last != nil {
		w.last.offer()
	}
	matters := false
	for _, i := range w.all {
		if i == w.last || w.turns > 0 || !w.last.inside() {
			matters = matters || i.awaitsClock()
			if i != w.last {
				i.offer()
			}
		} else if i.swift() {
			w.may(nil, i.renewAtOnce)
		}
	}
	if w.k.Now() < w.until && matters && !w.inWrite() {
		w.may(nil, func() {
			w.k.Advance(tick)
			w.ticked = true
			w.k.Note("--- the clock shows %d", w.k.Now()/tick)
		})
	}
	w.offerReuse()
	if w.tampers > 0 && !w.ticked && !w.unmended && !w.inWrite() {
		for _, t := range w.tampering {
			if w.k.Exists(t.path) {
				w.may(nil, func() {
					w.tampers--
					w.unmended = true
					t.do(w.k, t.path)
					w.k.Note("! a user %s %s", t.what, t.path)
				})
			}
		}
	}
}

// inside reports whether the process is between two calls of the system: another's
// step is a turn then.
func (i *simProcess) inside() bool {
	if i == nil {
		return false
	}
	waits, _ := i.p.Pending()
	return waits && !i.p.Blocked()
}

func (w *simWorld) inWrite() bool {
	return slices.ContainsFunc(w.all, func(i *simProcess) bool { return i.p.InWrite() })
}

func (w *simWorld) may(who *simProcess, do func()) { w.choices = append(w.choices, choice{who, do}) }

func (i *simProcess) offer() {
	w := i.w
	if i.crashed {
		return
	}
	if waits, mayFail := i.p.Pending(); waits && !i.p.Blocked() && (!w.ticked || i.p.ReadsClock()) {
		w.may(i, func() { i.step(explore.Done) })
		if mayFail && w.failures > 0 {
			w.may(i, func() { w.failures--; i.step(explore.Fails) })
			w.may(i, func() { w.failures--; i.step(explore.FailsDone) })
		}
	}
	if !i.begun && i.mayBegin() {
		w.may(i, i.begin)
	}
	if i.a != nil {
		i.offerActor()
	}
	if w.crashes > 0 && !w.ticked && i.begun && (i.busy > 0 || len(i.results) > 0 || i.a != nil && i.a.lease != nil && !i.freed) {
		w.may(i, func() { w.crashes--; i.crash() })
	}
}

func (i *simProcess) offerActor() {
	w, c := i.w, &i.a.core
	if len(i.results) > 0 {
		w.may(i, i.takeUp)
	}
	if i.begun && !i.gone && c.wake() <= w.k.Now() {
		if i.swift() {
			w.may(nil, i.renewAtOnce)
		} else {
			w.may(i, func() { i.handle(input{kind: inputTick}) })
		}
	}
	if w.advertises > 0 && c.owns() {
		w.may(i, func() { w.advertises--; i.handle(input{kind: inputAdvertise, ad: simAdvertisement()}) })
	}
	if c.asked && c.owns() {
		w.may(i, func() { i.handle(input{kind: inputRelease}) })
	}
	if w.releases > 0 && c.owns() {
		w.may(i, func() { w.releases--; i.handle(input{kind: inputRelease}) })
	}
	if i.held && (w.releases > 0 || w.k.Now() >= c.expiry()) {
		w.may(i, i.letGo)
	}
}

func simAdvertisement() *advertisement { // which makes the record longer
	return &advertisement{map[string]string{EndpointMetaKey: "unix:/advertised"}, make(chan error, 1)}
}

// awaitsClock reports whether the process will read the clock before anything else
// that it does.
func (i *simProcess) awaitsClock() bool {
	if i.crashed {
		return false
	}
	if i.p.ReadsClock() || len(i.results) > 0 || i.held || !i.begun && i.mayBegin() {
		return true
	}
	return i.a != nil && i.begun && !i.gone && (i.a.core.wake() <= i.w.until || (i.w.releases > 0 || i.a.core.asked) && i.a.core.owns())
}

// mayBegin: challengers are alike, so they begin in the order of their names.
func (i *simProcess) mayBegin() bool {
	for _, other := range i.w.all {
		if other == i {
			return true
		}
		if !other.begun && (other.a == nil) == (i.a == nil) {
			return false
		}
	}
	return true
}

func (i *simProcess) begin() {
	i.begun = true
	if i.a == nil {
		i.busy++
		go func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			i.interfere(ctx)
			i.finish()
		}()
		i.wait()
		return
	}
	i.handle(input{kind: inputJoin})
}

// interfere is what a process does that has not joined.
func (i *simProcess) interfere(ctx context.Context) {
	if id := simID(i.name, 0); i.w.revokes {
		i.w.k.Note("%s takes the lease away", i.name)
		_, _ = i.files.revoke(ctx, id)
	} else {
		i.w.k.Note("%s asks A to step down for %s", i.name, i.w.asks)
		_ = i.files.request(ctx, id, handoverRequest{simID("A", 0), simID(i.w.asks, 0)})
	}
}

func (i *simProcess) step(o explore.Outcome) {
	i.p.Step(o)
	i.wait()
}

// wait returns when the process waits for a system call, or has nothing to do.
func (i *simProcess) wait() {
	for i.busy > 0 {
		var mailbox chan input
		if i.a != nil && !i.gone {
			mailbox = i.a.mailbox
		}
		select {
		case c := <-i.p.Calls():
			i.p.Waits(c)
			return
		case in := <-mailbox:
			i.results = append(i.results, answer{in, i.p.Seen()})
			i.p.Forget()
			i.busy--
		case <-i.finished:
			i.p.Forget()
			i.busy--
		}
	}
}

// run gives the process's one thread something more to do.
func (i *simProcess) run(f func()) {
	i.busy++
	i.a.work.put(func() { f(); i.finish() })
	if waits, _ := i.p.Pending(); !waits {
		i.wait()
	}
}

// finish reports that the thread has done its task.
func (i *simProcess) finish() {
	select {
	case i.finished <- struct{}{}:
	case <-i.w.closed:
	}
}

func (i *simProcess) takeUp() {
	in := i.results[0].input
	i.results = i.results[1:]
	i.handle(in)
}

// handle has the actor take an input, and judges what comes of it.
func (i *simProcess) handle(in input) {
	w, c := i.w, &i.a.core
	before := *c
	asked, id := c.lastID, i.a.selfID()
	w.k.NoteAfter(func() { i.a.handle(in) }, func() string { return fmt.Sprintf("%s: %v -> %s%s", i.name, in.kind, c.state, i.validity()) })
	if i.a.claim != nil && i.a.selfID() != id { // a new one: it must be the same in each run
		i.ids++
		i.a.claim.InstanceID = simID(i.name, i.ids)
	}
	i.busy += int(c.lastID - asked)
	if before.state == StateAcquiring && c.state == StateOwner {
		w.elected(i)
	}
	switch {
	case c.state == StateRenewing:
		i.mending = w.unmended
	case before.state == StateRenewing && c.state == StateOwner && !c.failed && i.mending:
		w.unmended = false
	case before.owns() && c.state == StateLost:
		i.end = min(w.k.Now(), before.fence())
		if i.held = w.k.Now() < c.expiry(); !i.held { // the actor has released it already
			i.freed = true
			i.run(func() {})
		}
	case c.state == StateReleased:
		i.freed = true
	}
	if waits, _ := i.p.Pending(); !waits {
		i.wait()
	}
	i.leave()
}

// swift reports whether the owner can renew in one step, which is no turn.
func (i *simProcess) swift() bool {
	return i.w.swift && !i.crashed && i.a != nil && i.a.core.state == StateOwner && i.a.core.wake() <= i.w.k.Now()
}

func (i *simProcess) renewAtOnce() {
	i.p.Free(true)
	i.handle(input{kind: inputTick})
	i.settle()
	i.p.Free(false)
}

func (i *simProcess) validity() string {
	if !i.a.core.owns() {
		return ""
	}
	return fmt.Sprintf(", valid until %d", i.a.core.fence()/tick)
}

// leave ends the actor's loop where the actor would. An answer that was not taken up is
// handled as by deliver: a win is released.
func (i *simProcess) leave() {
	c := &i.a.core
	if i.gone || c.owns() || c.state == StateAcquiring || !i.a.idle() {
		return
	}
	i.gone = true
	close(i.a.loopDone)
	if i.busy > 0 { // the operation under way releases what it still wins
		i.busy = 0
		i.run(func() {})
	}
	for _, r := range i.results {
		if r.res.won() {
			i.run(func() { _ = i.a.giveUp(r.res.acq.Lease) })
		}
	}
	i.results = nil
}

// letGo: the lost lease has expired, or its caller has called Release.
func (i *simProcess) letGo() {
	if i.w.k.Now() < i.a.core.expiry() {
		i.w.releases--
	}
	i.w.k.Note("%s releases what it has lost", i.name)
	i.held, i.freed = false, true
	i.run(func() { _ = i.a.giveUp(i.a.lease) })
}

func (i *simProcess) crash() {
	i.w.k.Note("! %s is killed", i.name)
	i.crashed, i.freed, i.busy, i.results = true, true, 0, nil
	i.p.Kill()
}

func (w *simWorld) Choices() int { return len(w.choices) }

func (w *simWorld) Do(n int) {
	c := w.choices[n]
	w.ticked = false
	if c.who != nil {
		if c.who != w.last && w.last.inside() {
			w.turns--
		}
		w.last = c.who
	}
	c.do()
	w.bury()
	for _, i := range w.all { // every owner is asked all the time
		i.valid = i.a != nil && !i.crashed && i.a.owns()
	}
	w.offer()
}

func (w *simWorld) Close() {
	close(w.closed)
	for _, i := range w.all {
		i.crashed, i.busy = true, 0
		i.p.Kill()
		if i.a == nil {
			continue
		}
		if !i.gone {
			close(i.a.loopDone)
			i.gone = true
		}
		if i.a.holding != nil {
			i.a.holding.Stop()
		}
	}
}
