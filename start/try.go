package start

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ownerlease/owner"
)

// A try is one call of Ensure. It waits for a ready owner, and starts a process if it is
// its turn to, and the lease has no owner.
type try struct {
	store owner.Store
	cmd   *Command
	lock  lockFile

	seen    owner.View // as the lease was last seen; of a follower's read, only the Holder
	known   bool       // it was seen
	trouble error      // why it could not be read

	turn     *turn  // not nil while no other process may start one
	noted    *note  // a start that another process has begun and not ended
	child    *child // the process that was started
	others   bool   // another's owner was seen since then
	again    bool   // it was started a second time
	deadline *time.Timer
}

// While nothing happens, the lock and the process are polled, with growing pauses.
const (
	firstPause   = time.Millisecond
	longestPause = 20 * time.Millisecond
)

// run waits and starts until there is a ready owner, or no use in waiting.
func (t *try) run(ctx context.Context) (owner.Record, error) {
	t.deadline = time.NewTimer(t.cmd.Timeout)
	defer t.deadline.Stop()
	sightings, stop := watch(ctx, t.store)
	defer stop()
	pause := firstPause
	for {
		poll := time.NewTimer(pause)
		select {
		case s := <-sightings:
			t.see(s.rec, s.err)
			pause = firstPause
		case <-poll.C:
			pause = min(2*pause, longestPause)
		case <-t.deadline.C:
			return t.late(ctx)
		case <-ctx.Done():
		}
		poll.Stop()
		if ctx.Err() != nil {
			return owner.Record{}, t.canceled(ctx)
		}
		if err := t.step(ctx); err != nil {
			return owner.Record{}, err
		}
		if t.cmd.ready(t.seen.Holder) {
			return t.seen.Holder, nil
		}
	}
}

// late returns an owner that has become ready in the last moment, or says what is missing.
func (t *try) late(ctx context.Context) (owner.Record, error) {
	if seen, _ := t.look(ctx); seen && t.cmd.ready(t.seen.Holder) {
		return t.seen.Holder, nil
	}
	return owner.Record{}, t.notReady()
}

// step does what can be done now. A nil error says to wait.
func (t *try) step(ctx context.Context) error {
	switch {
	case t.trouble != nil && !errors.Is(t.trouble, owner.ErrUnavailable):
		return t.unreadable(t.trouble)
	case !t.known, t.cmd.ready(t.seen.Holder):
		return nil
	case t.child != nil:
		return t.checkChild(ctx)
	case !t.seen.Free():
		return nil // not ready yet, or it hangs and its lease is about to expire
	}
	return t.takeTurn(ctx)
}

// takeTurn starts a process if it is this process's turn, and looks at the lease again
// before that: the one whose turn it was may have been successful.
func (t *try) takeTurn(ctx context.Context) error {
	if t.turn == nil {
		err := t.cmd.find()
		if err != nil {
			return err
		}
		if t.turn, err = t.lock.take(); err != nil {
			return err
		}
		if t.turn == nil {
			return nil
		}
		t.noted = t.turn.read()
	}
	if t.noted.underWay() {
		return nil
	}
	if seen, err := t.look(ctx); err != nil || !seen || !t.seen.Free() {
		return err
	}
	return t.start()
}

func (t *try) start() error {
	c, err := spawn(t.cmd)
	if err != nil {
		return err
	}
	t.child, t.others = c, false
	since, _ := started(c.pid) // it has not been waited for, so the pid is its own
	t.turn.write(note{PID: c.pid, Started: since, Namespace: namespace(), At: time.Now(), Timeout: t.cmd.Timeout})
	t.deadline.Reset(t.cmd.Timeout)
	return nil
}

// checkChild looks whether the process has ended, and what that means.
func (t *try) checkChild(ctx context.Context) error {
	c := t.child
	if !c.ended && !c.poll() {
		return t.checkLog(ctx)
	}
	if !c.looked { // who owns may have changed just before its end
		seen, err := t.look(ctx)
		if err != nil || !seen {
			return err
		}
		c.looked = true
	}
	switch {
	case !t.seen.Free(): // another has won, or it has left a process behind
		return nil
	case c.status.code == 0 && !t.others: // it may have left one behind that is not as far
		return nil
	case t.others && !t.again:
		// It has ended because another owned, and that has ended, too.
		t.again = true
		return t.start()
	}
	return t.exited()
}

// checkLog ends a process that fills the disk with its output, and owns nothing.
func (t *try) checkLog(ctx context.Context) error {
	if !t.seen.Free() || t.child.log.written() <= mostLog {
		return nil
	}
	if seen, err := t.look(ctx); err != nil || !seen || !t.seen.Free() {
		return err
	}
	t.child.terminate()
	return t.failed(fmt.Errorf("it has written more than %d MiB to its log before it has acquired %s, and was ended", mostLog>>20, t.lease()))
}

// see takes what the lease was seen as.
func (t *try) see(rec owner.Record, err error) {
	t.trouble = err
	if err != nil {
		return
	}
	t.known = true
	t.seen = owner.View{Holder: rec}
	if t.child != nil && rec.InstanceID != "" && rec.PID != t.child.pid {
		t.others = true
	}
}

// look reads the lease now. It reports whether that has shown who owns it: a store that is
// not available may be so later.
func (t *try) look(ctx context.Context) (seen bool, err error) {
	type answer struct {
		view owner.View
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // a disk that hangs must not keep the caller beyond ctx's end
		v, err := t.store.Look(ctx)
		answers <- answer{v, err}
	}()
	select {
	case a := <-answers:
		switch {
		case a.err == nil:
			t.see(a.view.Holder, nil)
			return true, nil
		case errors.Is(a.err, owner.ErrUnavailable):
			return false, nil
		}
		return false, t.unreadable(a.err)
	case <-ctx.Done():
		return false, t.canceled(ctx)
	}
}

// end frees the turn. A process that is still on its way stays noted.
func (t *try) end() {
	if t.turn == nil {
		return
	}
	begun := t.child != nil || t.noted != nil
	if over := t.child != nil && t.child.ended || !t.seen.Free(); begun && over {
		t.turn.write(note{})
	}
	t.turn.free()
	if t.child != nil {
		t.child.leave()
	}
}

// A sighting is what a watch has yielded.
type sighting struct {
	rec owner.Record
	err error
}

// watch sends what changes, the newest only, until ctx ends or stop is called.
func watch(ctx context.Context, s owner.Store) (sightings <-chan sighting, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	out, done := make(chan sighting, 1), make(chan struct{})
	go func() {
		defer close(done)
		for rec, err := range owner.WatchStore(ctx, s) {
			select {
			case <-out: // the one before is the past
			default:
			}
			out <- sighting{rec, err}
		}
	}()
	return out, func() {
		cancel()
		<-done
	}
}
