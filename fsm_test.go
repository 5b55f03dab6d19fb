package owner

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite docs/state-diagram.md")

var allInputs = []inputKind{inputJoin, inputStandBy, inputTick, inputResult, inputHint, inputRelease, inputEnd, inputHealth, inputAdvertise, inputHandover}

// allEvents is every event of the table, in its order.
func allEvents() []event {
	var evs []event
	for _, t := range transitions {
		if !slices.Contains(evs, t.event) {
			evs = append(evs, t.event)
		}
	}
	return evs
}

// looplab takes duplicate rows, unknown states and self-loops without a word.
func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	reached := map[State]bool{StateFollower: true}
	for _, row := range transitions {
		key := string(row.from) + "/" + string(row.event)
		if seen[key] {
			t.Errorf("%s occurs twice", key)
		}
		seen[key] = true
		if !slices.Contains(allStates, row.from) || !slices.Contains(allStates, row.to) {
			t.Errorf("%s: unknown state", key)
		}
		if row.from == row.to {
			t.Errorf("%s is a self-loop", key)
		}
		if row.from == StateLost || row.from == StateReleased {
			t.Errorf("%s leads out of a final state", key)
		}
		if row.why == "" || reason(row.from, row.event) != row.why {
			t.Errorf("%s has no reason", key)
		}
		reached[row.to] = true
	}
	for _, s := range allStates {
		if !reached[s] {
			t.Errorf("nothing leads to %s", s)
		}
	}
	if len(stateDocs) != len(allStates) {
		t.Errorf("%d states are described, there are %d", len(stateDocs), len(allStates))
	}
}

// Every (state, event) pair goes where the table says, or nowhere.
func TestMachineFollowsTable(t *testing.T) {
	for _, from := range allStates {
		for _, ev := range allEvents() {
			want := destination(from, ev)
			got, err := move(from, ev)
			if got != want || (err == nil) != (want != "") {
				t.Errorf("%s in %s: got %q, %v; want %q", ev, from, got, err, want)
			}
		}
	}
	if got, err := move(StateOwner, "no_such_event"); err == nil {
		t.Errorf("an unknown event led to %s", got)
	}
}

func destination(from State, ev event) State {
	for _, row := range transitions {
		if row.from == from && row.event == ev {
			return row.to
		}
	}
	return ""
}

const (
	testTTL    = 120 * time.Millisecond
	testMargin = 30 * time.Millisecond
)

var testTiming = timing{ttl: testTTL, margin: testMargin, interval: 40 * time.Millisecond, pause: 6 * time.Millisecond, poll: 12 * time.Millisecond}

// inState returns a core as it is in the state, having been there for a moment.
func inState(s State) core {
	c := core{timing: testTiming, state: s, lastID: 7, issued: 1000 * time.Millisecond, validFrom: 1000 * time.Millisecond}
	switch s {
	case StateAcquiring:
		c.pending = op{kind: opAcquire, id: 7, at: c.issued}
	case StateEvicting:
		c.pending = op{kind: opEvict, id: 7, at: c.issued, hung: testHung}
	case StateRenewing:
		c.issued += c.interval
		c.pending = op{kind: opRenew, id: 7, at: c.issued}
	case StateReleased:
		c.pending = op{kind: opRelease, id: 7, at: c.issued}
	}
	return c
}

// testHung is an owner that hangs.
var testHung = &Status{Record: Record{InstanceID: "hung"}, Condition: Hung}

// standingBy is the same as a standby.
func (c core) standingBy() core {
	c.standing, c.looked, c.backoff = true, c.issued, minPollGap
	return c
}

// looking has begun a read.
func (c core) looking() core {
	c = c.standingBy()
	c.pending = op{kind: opLook, id: 7, at: c.issued}
	return c
}

// released was released while it was acquiring.
func (c core) released() core {
	return decide(&c, &input{kind: inputRelease, at: c.issued}).core
}

// evicted acquires again after an eviction.
func (c core) evicted() core {
	c.pending.hung = testHung
	return c
}

// outcomes are the ways in which an operation of the core can end.
func outcomes(o op) []result {
	rs := []result{{op: o, err: errors.New("I/O error")}}
	switch o.kind {
	case opAcquire:
		rs = append(rs,
			result{op: o, hung: testHung},
			result{op: o, hung: &Status{Record: Record{InstanceID: "hung, too"}}},
			result{op: o, acq: &Acquisition{Holder: Record{InstanceID: "other"}}},
			result{op: o, acq: &Acquisition{Holder: Record{InstanceID: "me"}, Lease: nopLease{}, From: o.at}})
	case opLook:
		rs = append(rs,
			result{op: o, view: &View{Holder: Record{InstanceID: "other"}, Until: o.at + testTTL/2}},
			result{op: o, view: &View{Holder: Record{InstanceID: "hung"}, Until: o.at - testTTL}},
			result{op: o, view: &View{}})
	case opRenew:
		rs = append(rs, result{op: o}, result{op: o, err: fmt.Errorf("x: %w", ErrTakenOver)}, result{op: o, err: ErrRevoked})
	case opRelease, opEvict:
		rs = append(rs, result{op: o})
	}
	return rs
}

// Every (state, input) pair, at every kind of time, moves as the table says, is
// ignored for a reason, or is one of the two that cannot happen, and then fails
// closed.
func TestEveryInputInEveryState(t *testing.T) {
	impossible := func(s State, k inputKind) bool {
		return (k == inputJoin || k == inputStandBy) && s != StateFollower
	}
	cores := []core{inState(StateFollower).looking(), inState(StateAcquiring).standingBy(), inState(StateAcquiring).released(),
		inState(StateEvicting).standingBy(), inState(StateAcquiring).evicted()}
	for _, s := range allStates {
		cores = append(cores, inState(s))
	}
	for _, c := range cores {
		s := c.state
		for _, k := range allInputs {
			ins := []input{{kind: k}}
			if k == inputResult {
				ins = []input{{kind: k, res: result{op: op{kind: opRenew, id: 3}}}} // an abandoned one
				for _, res := range outcomes(c.pending) {
					ins = append(ins, input{kind: k, res: res})
				}
			}
			for _, in := range ins {
				for _, in.at = range []time.Duration{c.issued, c.renewAt(), c.fence() - 1, c.fence(), c.expiry(), c.expiry() + time.Hour} {
					d := decide(&c, &in)
					if impossible(s, k) {
						if final := s == StateLost || s == StateReleased; !errors.Is(d.err, errBug) || d.owns() ||
							final != (d.state == s) || final != (d.event == "") {
							t.Errorf("%v in %s: want a bug that fails closed, got %s", k, s, d.state)
						}
						continue
					}
					if errors.Is(d.err, errBug) {
						t.Errorf("%v in %s at %v: %v", k, s, in.at, d.err)
					}
					if d.event != "" && reason(s, d.event) == "" {
						t.Errorf("%v in %s at %v: %s has no reason", k, s, in.at, d.event)
					}
					if d.event == "" && d.state != s {
						t.Errorf("%v in %s at %v: ignored, but moved to %s", k, s, in.at, d.state)
					}
				}
			}
		}
	}
}

type nopLease struct{ Lease }

// The rules that keep two owners apart, at their edges.
func TestDecisions(t *testing.T) {
	owner, renewing, acquiring, evicting := inState(StateOwner), inState(StateRenewing), inState(StateAcquiring), inState(StateEvicting)
	ok := func(c core) result { return result{op: c.pending} }
	won := result{op: acquiring.pending, acq: &Acquisition{Lease: nopLease{}, From: 1003 * time.Millisecond}}

	for _, tc := range []struct {
		name  string
		core  core
		in    input
		event event
		fence time.Duration // afterwards; 0: not asked
	}{
		{"a tick before anything is due", owner, input{kind: inputTick, at: owner.renewAt() - 1}, "", owner.fence()},
		{"a tick when the renewal is due", owner, input{kind: inputTick, at: owner.renewAt()}, evRenew, owner.fence()},
		{"a tick a moment before the fence", renewing, input{kind: inputTick, at: renewing.fence() - 1}, "", renewing.fence()},
		{"a tick at the fence while renewing", renewing, input{kind: inputTick, at: renewing.fence()}, evExpire, 0},
		{"after a long pause: expired, not renewed", owner, input{kind: inputTick, at: owner.expiry() + time.Hour}, evExpire, 0},
		{"a confirmed renewal counts from its issue", renewing, input{kind: inputResult, at: renewing.issued + 5*time.Millisecond, res: ok(renewing)}, evRenewed, renewing.issued + testTTL - testMargin},
		{"confirmed a moment before the fence", renewing, input{kind: inputResult, at: renewing.fence() - 1, res: ok(renewing)}, evRenewed, 0},
		{"confirmed at the old fence: too late", renewing, input{kind: inputResult, at: renewing.fence(), res: ok(renewing)}, evExpire, 0},
		{"an unknown outcome moves no deadline", renewing, input{kind: inputResult, at: renewing.issued, res: result{op: renewing.pending, err: errors.New("EIO")}}, evRetry, renewing.fence()},
		{"an unknown outcome at the fence", renewing, input{kind: inputResult, at: renewing.fence(), res: result{op: renewing.pending, err: errors.New("EIO")}}, evExpire, 0},
		{"a definite loss says what it was, also late", renewing, input{kind: inputResult, at: renewing.expiry(), res: result{op: renewing.pending, err: ErrTakenOver}}, evTakenOver, 0},
		{"a won lease counts from the store's reading", acquiring, input{kind: inputResult, at: 1010 * time.Millisecond, res: won}, evAcquired, won.acq.From + testTTL - testMargin},
		{"won, but past its fence: undone", acquiring, input{kind: inputResult, at: won.acq.From + testTTL - testMargin, res: won}, evTooLate, 0},
		{"an acquisition without an answer", acquiring, input{kind: inputTick, at: acquiring.issued + testTTL - testMargin}, evGiveUp, 0},
		{"a hung owner is evicted", acquiring, input{kind: inputResult, at: 1010 * time.Millisecond, res: result{op: acquiring.pending, hung: testHung}}, evHung, 0},
		{"it is still there after its eviction", acquiring.evicted(), input{kind: inputResult, at: 1010 * time.Millisecond, res: result{op: acquiring.evicted().pending, hung: testHung}}, evFailed, 0},
		{"another hangs after the eviction", acquiring.evicted(), input{kind: inputResult, at: 1010 * time.Millisecond, res: result{op: acquiring.evicted().pending, hung: &Status{Record: Record{InstanceID: "hung, too"}}}}, evHung, 0},
		{"Evict has returned nil: nothing is owned yet", evicting, input{kind: inputResult, at: 1010 * time.Millisecond, res: ok(evicting)}, evEvicted, 0},
		{"Evict takes its time", evicting, input{kind: inputTick, at: evicting.issued + testTTL - 1}, "", 0},
		{"Evict has not returned in time", evicting, input{kind: inputTick, at: evicting.issued + testTTL}, evFailed, 0},
		{"an answer of an Evict before", evicting, input{kind: inputResult, at: 1010 * time.Millisecond, res: result{op: op{kind: opEvict, id: 6}}}, "", 0},
		{"the context ends in a renewal", renewing, input{kind: inputEnd, at: renewing.issued}, evStop, renewing.fence()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := decide(&tc.core, &tc.in)
			if d.event != tc.event {
				t.Errorf("event %q, want %q", d.event, tc.event)
			}
			if tc.fence != 0 && d.fence() != tc.fence {
				t.Errorf("fence %v, want %v", d.fence(), tc.fence)
			}
		})
	}
	if d := decide(&acquiring, &input{kind: inputResult, at: won.acq.From + testTTL, res: won}); d.start.kind != opRelease {
		t.Error("a lease that was won too late is not given back")
	}
}

// Random runs. Beside the decision runs the simplest model of what an owner may believe:
// that it is valid until its latest proof expires. A proof counts from the issue of a
// renewal that was confirmed before the last proof expired.
func TestRandomLives(t *testing.T) {
	const lives = 3000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ends := map[State]int{}
	for range lives {
		ends[randomLife(t, rng)]++
		if t.Failed() {
			return
		}
	}
	for _, s := range []State{StateFollower, StateLost, StateReleased} {
		if ends[s] == 0 {
			t.Errorf("no life has ended in %s: the test explores too little", s)
		}
	}
}

func randomLife(t *testing.T, rng *rand.Rand) State {
	standby := rng.IntN(2) == 0
	c := core{timing: testTiming, state: StateFollower}
	now := time.Duration(rng.Int64N(int64(time.Hour)))
	var proof time.Duration // until when the owner may act, by the model
	var inFlight []op
	var lostForGood bool
	var story strings.Builder
	c = decide(&c, &input{kind: inputJoin, at: now}).core
	inFlight = append(inFlight, c.pending)

	for range 60 {
		now += time.Duration(rng.Int64N(int64(testTTL / 4)))
		if rng.IntN(20) == 0 {
			now += time.Duration(rng.Int64N(int64(2 * testTTL))) // stopped for a while
		}
		in := randomInput(rng, &c, &inFlight, now)
		if standby && c.state == StateFollower && !c.standing && c.err == nil {
			in = input{kind: inputStandBy, at: now} // what Join does
		}
		before := c
		d := decide(&c, &in)
		c = d.core
		if d.start.kind != opNone {
			inFlight = append(inFlight, d.start)
		}
		fmt.Fprintf(&story, "%v: %v %v %v in %s: %q -> %s\n", now, in.kind, in.res.op, in.res.err, before.state, d.event, c.state)

		current := in.kind == inputResult && in.res.op.id == before.pending.id && in.res.err == nil
		switch {
		case current && before.state == StateAcquiring && in.res.won():
			proof = in.res.acq.From + testTTL - testMargin
		case current && before.state == StateRenewing && now < proof:
			proof = in.res.op.at + testTTL - testMargin
		}
		final := before.state == StateLost || before.state == StateReleased
		switch {
		case errors.Is(d.err, errBug):
			t.Errorf("%v\n%s", d.err, &story)
		case final && c.state != before.state:
			t.Errorf("left the final state %s\n%s", before.state, &story)
		case c.owns() && c.fence() > proof:
			t.Errorf("valid until %v, proven until %v\n%s", c.fence(), proof, &story)
		case lostForGood && c.owns():
			t.Errorf("owns after a definite loss\n%s", &story)
		case c.owns() && in.kind == inputTick && now >= c.fence():
			t.Errorf("a tick at the fence has left an owner\n%s", &story)
		case d.start.kind == opRenew && now >= before.fence():
			t.Errorf("renews after the fence\n%s", &story)
		}
		if before.owns() && current && in.res.op.kind == opRenew {
			lostForGood = errors.Is(in.res.err, ErrTakenOver) || errors.Is(in.res.err, ErrRevoked)
		}
		// Nothing may be due at the next wake-up for ever: the actor would spin.
		if at := max(c.wake(), now); at < never && !(c.state == StateReleased && c.pending.kind == opNone) {
			if tick := decide(&c, &input{kind: inputTick, at: at}); tick.event == "" && tick.start.kind == opNone && tick.pending == c.pending {
				t.Errorf("nothing happens at the wake-up %v\n%s", at, &story)
			}
		}
		if c.standsBy() && c.pending.kind == opNone {
			pause := c.wake() - c.looked
			if pause > testTiming.poll || pause < minPollGap && c.until <= c.looked {
				t.Errorf("polls again after %v\n%s", pause, &story)
			}
		}
		if in.res.won() && in.kind == inputResult && d.event != evAcquired && d.start.kind != opRelease && d.late == before.late {
			t.Errorf("a lease that was won is forgotten\n%s", &story)
		}
		if t.Failed() {
			break
		}
	}
	return c.state
}

func randomInput(rng *rand.Rand, c *core, inFlight *[]op, now time.Duration) input {
	switch n := rng.IntN(100); {
	case n < 45 && len(*inFlight) > 0:
		i := rng.IntN(len(*inFlight))
		o := (*inFlight)[i]
		*inFlight = slices.Delete(*inFlight, i, i+1)
		rs := outcomes(o)
		res := rs[rng.IntN(len(rs))]
		if res.acq != nil {
			res.acq.From += time.Duration(rng.Int64N(int64(now-o.at) + 1))
		}
		if o.kind == opRenew && rng.IntN(3) > 0 {
			res.err = nil
		}
		return input{kind: inputResult, at: now, res: res}
	case n < 95:
		return input{kind: inputTick, at: now}
	case n < 96:
		return input{kind: inputHint, at: now}
	case n < 97:
		return input{kind: inputRelease, at: now}
	case n < 98:
		return input{kind: inputEnd, at: now}
	}
	return input{kind: inputTick, at: now}
}

const diagramFile = "docs/state-diagram.md"

func TestDiagramIsCurrent(t *testing.T) {
	want := diagramPage()
	if *update {
		if err := os.WriteFile(diagramFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(diagramFile)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ReplaceAll(string(got), "\r\n", "\n") != want {
		t.Errorf("%s is not what the code does: run go generate", diagramFile)
	}
}

// diagramPage renders the tables as a human-readable page.
func diagramPage() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("<!-- Generated from the tables in fsm.go and states.go by go generate. Do not edit. -->\n")
	p("# The state machine\n")
	p("Each instance that has joined a lease is in one of seven states. This page is generated from the table that the code runs on, and a test fails when the two differ.\n")
	p("```mermaid\n%s```\n", Diagram())
	p("*Lost* and *released* are final: a process that wants the lease again joins again, as a new instance.\n")

	p("## What a caller may do\n")
	p("| state | what it means | what the caller may do |\n|---|---|---|")
	for _, d := range stateDocs {
		p("| **%s** | %s | %s |", d.state, d.means, d.allowed)
	}
	p("\nThe state alone does not say that an instance owns the lease: in *owner* and *renewing* the clock must confirm it. A process that was stopped past its fence deadline is no owner from the first moment after it continues, though its state changes a moment later. `IsOwner` checks both.\n")

	p("## Transitions\n")
	p("| event | from | to | why |\n|---|---|---|---|")
	for _, r := range transitions {
		p("| `%s` | %s | %s | %s |", r.event, r.from, r.to, r.why)
	}

	p("\n## Every state and every event\n")
	p("An empty field is a pair that cannot happen. If it did, that would be a bug, and the instance would stop owning at once.\n")
	b.WriteString("| state |")
	for _, ev := range allEvents() {
		fmt.Fprintf(&b, " `%s` |", ev)
	}
	p("\n|---|%s", strings.Repeat("---|", len(allEvents())))
	for _, s := range allStates {
		fmt.Fprintf(&b, "| **%s** |", s)
		for _, ev := range allEvents() {
			fmt.Fprintf(&b, " %s |", destination(s, ev))
		}
		p("")
	}

	p("\n## Ignored inputs\n")
	p("Inputs reach the machine from outside: a timer's tick, the result of an operation on the store, a hint that something has happened to the lease, a call of Release, the end of the context. Those that are events for the state they meet are in the table above. The others cause no transition:\n")
	p("| input | in | why |\n|---|---|---|")
	for _, r := range ignored {
		names := "every state"
		if len(r.states) < len(allStates) {
			names = strings.ReplaceAll(strings.Trim(fmt.Sprint(r.states), "[]"), " ", ", ")
		}
		p("| %s | %s | %s |", r.input, names, r.why)
	}
	return b.String()
}
