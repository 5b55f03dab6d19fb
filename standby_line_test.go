//go:build unix

package owner

import (
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/disk"
)

// awaitTrue polls: what it waits for comes by itself.
func awaitTrue(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func (h *hints) first() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.place != nil
}

// One of the standbys is first in line; when it leaves, another is.
func TestLineHasOneFirst(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	a, b := joinFile(t, p, standby), joinFile(t, p, standby)
	firsts := func() (n int) {
		for _, f := range []*Owner{a, b} {
			if f.a.hints.first() {
				n++
			}
		}
		return n
	}
	awaitTrue(t, "none is first in line", func() bool { return firsts() == 1 })
	if b.a.hints.first() {
		a, b = b, a
	}
	must(t, a.Release())
	awaitTrue(t, "the second has not moved up", b.a.hints.first)
	must(t, o.Release())
	<-b.Elected()
	if b.a.hints.first() {
		t.Error("an owner is in line")
	}
	must(t, b.Release())
	if n := places.Load(); n != 0 {
		t.Errorf("%d places are left", n)
	}
}

// With the next owner the line begins anew, on its record's file.
func TestLineFollowsTheRecord(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	s, err := newFileStore(p)
	must(t, err)
	place, behind := s.placeInLine(nil)
	if place == nil || behind {
		t.Fatal("alone, and not the first")
	}
	if again, behind := s.placeInLine(place); again != place || behind {
		t.Error("a place is not kept")
	}
	if other, behind := s.placeInLine(nil); other != nil || !behind {
		t.Error("two are first")
	}
	must(t, o.Release())
	joinFile(t, p)
	next, behind := s.placeInLine(place)
	if next == nil || next == place || behind {
		t.Error("the place is at a record that is no more")
	}
	leaveLine(next)
}

// Places are descriptors: a process has few, and without one it acts as the first.
func TestFewPlaces(t *testing.T) {
	var held []disk.Lock
	for range mostPlaces + 3 {
		s, err := newFileStore(leasePath(t))
		must(t, err)
		o := joinFile(t, s.path)
		defer o.Release()
		place, behind := s.placeInLine(nil)
		if behind || place == nil && len(held) < mostPlaces {
			t.Fatal(len(held), behind)
		}
		if place != nil {
			held = append(held, place)
		}
	}
	if len(held) != mostPlaces {
		t.Errorf("%d places", len(held))
	}
	for _, place := range held {
		leaveLine(place)
	}
}

// A standby that is not the first polls once for all hints, a while after the first of
// them, and then as seldom as before.
func TestStepsAsideAtAHint(t *testing.T) {
	const at, pause = time.Second, 9 * time.Millisecond
	c := core{timing: testTiming, state: StateFollower, standing: true, pacing: pacing{behind: true, looked: at - time.Millisecond, backoff: testTiming.poll}}
	c.timing.aside = pause
	for i := range 3 {
		c = decide(&c, &input{kind: inputHint, at: at + time.Duration(i)*time.Millisecond}).core
		if c.nextPoll() != at+pause {
			t.Errorf("after hint %d it polls at %v", i, c.nextPoll())
		}
	}
	c.pending = op{kind: opLook, id: 1}
	res := result{op: c.pending, view: &View{Holder: Record{InstanceID: "x"}}}
	c.looked = at + pause
	c = decide(&c, &input{kind: inputResult, at: at + pause, res: res}).core
	if c.behind || c.nextPoll() != at+pause+testTiming.poll {
		t.Errorf("then it polls at %v", c.nextPoll())
	}
	c = decide(&c, &input{kind: inputHint, at: at + 2*pause}).core
	if c.backoff != minPollGap {
		t.Error("it is the first now, and waits at a hint")
	}
}

// Where the first one does nothing, another acquires the lease all the same.
func TestFirstInLineHangs(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	s, err := newFileStore(p)
	must(t, err)
	place, _ := s.placeInLine(nil)
	defer leaveLine(place)
	f := joinFile(t, p, standby, func(c *Config) { c.TTL = time.Minute })
	must(t, o.Release())
	<-f.Elected()
	must(t, f.Release())
}

// A follower leaves a lease to an instance that holds the guard, once.
func TestLeavesItToWhoIsAcquiring(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	must(t, o.Release())
	g, err := lockGuard(p)
	must(t, err)
	s := storeAt(p)
	if !s.acquiring() {
		t.Fatal("the guard is held, and nothing shows it")
	}
	c := core{timing: testTiming, state: StateAcquiring, standing: true, pending: op{kind: opAcquire, id: 1, yields: true}, lastID: 1}
	c.timing.aside = 9 * time.Millisecond
	d := decide(&c, &input{kind: inputResult, at: time.Second, res: result{op: c.pending, acq: new(Acquisition)}})
	if d.event != evRefused || d.nextPoll() != time.Second+9*time.Millisecond {
		t.Errorf("%s, polls at %v", d.event, d.nextPoll())
	}
	c = d.core
	d = decide(&c, &input{kind: inputHint, at: time.Second})
	if d.nextPoll() != time.Second+9*time.Millisecond {
		t.Errorf("a hint brings the poll forward to %v", d.nextPoll())
	}
	c.pending = op{kind: opLook, id: 2}
	d = decide(&c, &input{kind: inputResult, at: 2 * time.Second, res: result{op: c.pending, view: new(View)}})
	if d.start.kind != opAcquire || d.start.yields {
		t.Errorf("it is still free: %+v", d.start)
	}
	g.unlock()
	if s.acquiring() {
		t.Error("none is acquiring")
	}
}

// Where hints are known to be missing, a standby polls every second.
func TestPollWithAndWithoutHints(t *testing.T) {
	for hinted, want := range map[bool]time.Duration{true: 3 * time.Second, false: time.Second} {
		c := core{timing: timing{ttl: time.Minute, poll: maxPollInterval(time.Minute), rest: maxRestInterval(time.Minute)}, state: StateFollower, standing: true}
		for id := range uint64(20) {
			c.pending = op{kind: opLook, id: id}
			view := &View{Holder: Record{InstanceID: "x"}}
			c = decide(&c, &input{kind: inputResult, res: result{op: c.pending, view: view, hinted: hinted}}).core
			if c.backoff == 0 {
				c.hurry()
			}
		}
		if c.backoff != want {
			t.Errorf("hinted %v: polls every %v", hinted, c.backoff)
		}
	}
}

// A hint that comes while the one read is under way may have a cause that the read has
// not seen: another read follows at once.
func TestHintDuringTheLook(t *testing.T) {
	p := pacing{backoff: minPollGap}
	p.stepAside(0, 10*time.Millisecond)
	p.hint(time.Millisecond, 10*time.Millisecond, false) // before it: the read will see
	p.looked = 10 * time.Millisecond
	p.hint(p.looked, 10*time.Millisecond, true)
	p.slowDown(time.Second)
	if next := p.nextPoll() - p.looked; next != minPollGap {
		t.Errorf("polls again after %v, not after %v", next, minPollGap)
	}
	p.slowDown(time.Second)
	p.stepAside(p.looked, 0)
	p.hint(p.looked, 0, false)
	p.slowDown(time.Second)
	if next := p.nextPoll() - p.looked; next != time.Second {
		t.Errorf("polls again after %v, where nothing was missed", next)
	}
}
