package owner

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ownerlease/owner/internal/explore"
)

// elected checks a new owner against all that were.
func (w *simWorld) elected(i *simProcess) {
	if i.owned = true; w.k.Now() >= i.a.core.fence() {
		return // it is no valid owner at any instant
	}
	if e := i.a.holder.Epoch; e <= w.epoch {
		w.wrong = fmt.Errorf("%s owns with epoch %d after epoch %d", i.name, e, w.epoch)
	} else {
		w.epoch = e
	}
	for _, other := range w.all {
		if other == i || !other.owned || other.freed {
			continue
		}
		end := other.end
		if other.a.core.owns() {
			end = other.a.core.fence()
		}
		if w.k.Now() < end+simMargin {
			w.wrong = fmt.Errorf("%s owns at %d; %s was valid until %d and the margin is %d",
				i.name, w.k.Now()/tick, other.name, end/tick, simMargin/tick)
		}
	}
}

// Check checks the guarantee: there are never two valid owners, and no process is one for
// longer than its own file proves.
func (w *simWorld) Check() error {
	if w.wrong != nil {
		return w.wrong
	}
	var valid *simProcess
	for _, i := range w.all {
		if !i.valid {
			continue
		}
		if valid != nil {
			return fmt.Errorf("%s and %s own at the same time", valid.name, i.name)
		}
		valid = i
		rec, err := decodeRecord(explore.Whole(i.a.lease.(*fileLease).file))
		if err != nil {
			return fmt.Errorf("%s owns without a record of its own: %w", i.name, err)
		}
		if w.k.Now() >= rec.Heartbeat+w.ttl-simMargin {
			return fmt.Errorf("%s owns at %d, and its record, with heartbeat %d, does not prove it", i.name, w.k.Now()/tick, rec.Heartbeat/tick)
		}
	}
	return nil
}

// AtEnd lets all operations end, without further faults, and demands that one instance
// comes to own.
func (w *simWorld) AtEnd() error {
	w.k.Note("--- all go on")
	w.crashes, w.failures, w.releases, w.tampers, w.advertises = 0, 0, 0, 0, 0
	slices.SortStableFunc(w.all, func(i, j *simProcess) int { // a writer has done so first
		return int(bits(j.p.InWrite())) - int(bits(i.p.InWrite()))
	})
	for _, i := range w.all {
		i.p.Free(true)
		if waits, _ := i.p.Pending(); waits {
			i.step(explore.Done)
		}
	}
	var last *simProcess
	newcomer := w.k.NewProcess("N")
	newcomer.Free(true)
	files := &fileStore{process: &process{host: newcomer}, path: simLease}
	for try := range 4 * int(w.ttl/tick) {
		w.k.Advance(tick)
		for _, i := range w.all {
			i.settle()
			i.valid = i.a != nil && !i.crashed && i.a.owns()
		}
		if w.wrong != nil {
			return w.wrong
		}
		if err := w.Check(); err != nil {
			return err
		}
		if last == nil || last.gone {
			last = w.add("N", false)
			last.p, last.files = newcomer, files
			last.a.store = simStore{files, w.k}
			last.a.claim.InstanceID = simID("N", try)
			last.begin()
			last.settle()
		}
	}
	for _, i := range w.all {
		if i.a != nil && !i.crashed && i.a.owns() {
			return nil
		}
	}
	return errors.New("none comes to own")
}

// settle has an instance do all that it can do at this time.
func (i *simProcess) settle() {
	for !i.crashed && i.begun && i.a != nil {
		switch {
		case len(i.results) > 0:
			i.takeUp()
		case !i.gone && i.a.core.wake() <= i.w.k.Now():
			i.handle(input{kind: inputTick})
		case i.held && i.w.k.Now() >= i.a.core.expiry():
			i.letGo()
		default:
			return
		}
	}
}

func (w *simWorld) Trace() []string {
	for n, line := range w.k.Trace {
		w.k.Trace[n] = shortNames(line)
	}
	return w.k.Trace
}

// shortNames makes a line of a trace readable.
func shortNames(line string) string {
	for _, name := range []string{"A", "B", "C", "D", "N"} {
		line = strings.ReplaceAll(line, simID(name, 0), name)
		line = strings.ReplaceAll(line, strings.TrimRight(simID(name, 0), "0"), name+"'")
	}
	return strings.ReplaceAll(line, "/d/", "")
}

// showContent describes a file's content in a few words.
func showContent(b []byte) string {
	if rec, err := decodeRecord(b); err == nil {
		s := fmt.Sprintf("the record of %s, epoch %d, heartbeat %d", rec.InstanceID, rec.Epoch, rec.Heartbeat/tick)
		if rec.Released {
			s += ", released"
		}
		if rec.Revoked {
			s += ", revoked"
		}
		return s
	}
	if len(b) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%.40q", strings.TrimSpace(strings.Trim(string(b), "\x00")))
}
