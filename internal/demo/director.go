package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
)

// A director directs the processes, and prints what happens, in one goroutine, which gets
// its news from the others.
type director struct {
	ctx   context.Context // ends the demo
	out   io.Writer
	lease string
	start time.Duration

	told    chan news
	telling int // how many still report: the live processes, and the watch

	players []*player
	actors  []*player // in the order in which they first owned
	owner   *player   // as far as the play has got
	watched string    // the instance that owns now, "" for none
	paused  *player   // the one that was stopped

	takeovers []takeover
	samples   int
}

// limit is how long anything may take. Nothing waits for it.
const limit = 20 * time.Second

// perform plays it all.
func perform(ctx context.Context, out io.Writer, lease string) (*timeline, error) {
	hired, dismiss := context.WithCancel(context.WithoutCancel(ctx))
	d := &director{ctx: ctx, out: out, lease: lease, start: clock.Now(), told: make(chan news)}
	defer d.close(dismiss)
	for range 3 {
		p, err := startPlayer(hired, lease, d.told)
		if err != nil {
			return nil, err
		}
		d.players = append(d.players, p)
		d.telling++
	}
	d.telling++
	go d.watch(hired)
	for _, act := range []func() error{d.begin, d.kill, d.stop, d.resume, d.release} {
		if err := act(); err != nil {
			return nil, err
		}
		if err := d.pause(scene); err != nil {
			return nil, err
		}
	}
	end := clock.Now()
	d.close(dismiss) // what they still say counts
	return d.timeline(end), nil
}

// watch passes on who owns the lease.
func (d *director) watch(ctx context.Context) {
	for rec, err := range owner.Watch(ctx, d.lease) {
		d.told <- news{owner: rec.InstanceID, err: err}
	}
	d.told <- news{err: io.EOF}
}

// close ends the processes, and receives their last news.
func (d *director) close(dismiss func()) {
	dismiss()
	for d.telling > 0 {
		_ = d.hear(<-d.told)
	}
}

// hear receives one piece of news. An error says that the demo cannot continue.
func (d *director) hear(n news) error {
	p, r := n.from, n.report
	switch {
	case errors.Is(n.err, io.EOF):
		d.telling--
	case n.err != nil:
		return n.err
	case p == nil:
		d.watched = n.owner
	case r == nil:
		d.telling--
		if !p.over {
			return fmt.Errorf("process %d has ended: %v", p.pid, p.cmd.ProcessState)
		}
	case r.Event == failed:
		return fmt.Errorf("process %d: %s", p.pid, r.Why)
	case r.Event == lost && (p != d.paused || p.loss != nil):
		return fmt.Errorf("process %d has lost the lease (%s): is this machine very busy?", p.pid, r.Why)
	default:
		p.learn(r)
		if r.Event == sampled {
			d.samples++
		}
	}
	return nil
}

// await receives news until a condition holds.
func (d *director) await(what string, is func() bool) error {
	late := time.After(limit)
	for !is() {
		select {
		case n := <-d.told:
			if err := d.hear(n); err != nil {
				return err
			}
		case <-late:
			return fmt.Errorf("nothing after %v: %s", limit, what)
		case <-d.ctx.Done():
			return context.Cause(d.ctx)
		}
	}
	return nil
}

// pause waits for a while, and receives the news.
func (d *director) pause(while time.Duration) error {
	until := clock.Now() + while
	timer := time.NewTimer(while)
	defer timer.Stop()
	for clock.Now() < until {
		select {
		case n := <-d.told:
			if err := d.hear(n); err != nil {
				return err
			}
		case <-timer.C:
		case <-d.ctx.Done():
			return context.Cause(d.ctx)
		}
	}
	return nil
}

// say prints a line. who is nil for a line about all.
func (d *director) say(at time.Duration, who *player, format string, args ...any) {
	name := " "
	if who != nil {
		name = who.name
	}
	fmt.Fprintf(d.out, "%7.3fs  %s  %s\n", (at - d.start).Seconds(), name, fmt.Sprintf(format, args...))
}

func (d *director) begin() error {
	d.say(d.start, nil, "three processes contend for one lease, with a ttl of %v", ttl)
	first, err := d.awaitOwner()
	if err == nil {
		d.crown(first, "")
	}
	return err
}

// awaitOwner waits for another owner than the present one. The watch shows that there is
// one, and the owner itself reports since when.
func (d *director) awaitOwner() (*player, error) {
	var next *player
	err := d.await("there is no owner", func() bool {
		for _, p := range d.players {
			if p != d.owner && p.instance != "" && p.instance == d.watched {
				next = p
			}
		}
		return next != nil
	})
	return next, err
}

// crown prints who owns now. Names are given in the order in which the processes first
// own.
func (d *director) crown(p *player, later string) {
	if p.name == "" {
		p.name = string(rune('A' + len(d.actors)))
		d.actors = append(d.actors, p)
	}
	d.owner = p
	d.say(p.elected, p, "owns%s (pid %d, epoch %d)", later, p.pid, p.epoch)
}

// takeover awaits the successor of an owner that was one until from.
func (d *director) takeover(cause, after string, from time.Duration) error {
	next, err := d.awaitOwner()
	if err != nil {
		return err
	}
	t := takeover{of: d.owner.name, cause: cause, after: after, from: from - d.start, at: next.elected - d.start}
	d.crown(next, fmt.Sprintf(" %s after %s", short(t.took()), after))
	t.by = next.name
	d.takeovers = append(d.takeovers, t)
	return nil
}

func (d *director) kill() error {
	p, at := d.owner, clock.Now()
	p.over = true
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	p.left, p.killed = at, true
	d.mark(p, at, killing)
	d.say(at, p, "is killed (%s)", killing)
	return d.takeover(p.name+" is killed", "the kill", at)
}

// stop stops the owner. No other can take over before its lease has expired.
func (d *director) stop() error {
	p, at := d.owner, clock.Now()
	d.paused = p
	if err := suspend(p.cmd.Process); err != nil {
		return err
	}
	p.stopped = append(p.stopped, span{at, at + time.Hour})
	d.mark(p, at, stopping)
	d.say(at, p, "is stopped (%s): it hangs, and its lease expires", stopping)
	over, err := d.expiry()
	if err != nil {
		return err
	}
	d.mark(p, over, "lease expires")
	return d.takeover(p.name+"'s lease expires", p.name+"'s lease expired", over)
}

// expiry is when the lease of an owner that no longer renews it expires.
// Its last renewal may have been on the way when it was stopped.
func (d *director) expiry() (time.Duration, error) {
	if err := d.pause(ttl / 20); err != nil {
		return 0, err
	}
	now := clock.Now()
	st, err := owner.Probe(d.lease)
	if err == nil && !st.Owned() {
		err = fmt.Errorf("the lease was %s too early: is this machine very busy?", st.Condition)
	}
	return now + st.Remaining, err
}

// resume resumes the stopped process: it has lost, and must know at once.
func (d *director) resume() error {
	p, at := d.paused, clock.Now()
	p.resumed = at
	p.stopped[0].to = at
	if err := resume(p.cmd.Process); err != nil {
		return err
	}
	d.mark(p, at, resuming)
	if err := d.await("a sign of the resumed process", func() bool { return p.first != nil }); err != nil {
		return err
	}
	d.say(at, p, "is resumed (%s), and asks IsOwner %s later: %v", resuming, short(p.first.At-at), p.first.Owns)
	if err := d.await("the loss is noticed", func() bool { return p.loss != nil && p.standing }); err != nil {
		return err
	}
	d.say(p.loss.At, p, "has lost (%s), and is a standby again", p.loss.Why)
	return nil
}

func (d *director) release() error {
	p := d.owner
	if _, err := fmt.Fprintln(p.stdin, release); err != nil {
		return err
	}
	if err := d.await("the release", func() bool { return p.released > 0 }); err != nil {
		return err
	}
	p.left = p.released
	d.mark(p, p.released, "release")
	d.say(p.released, p, "releases")
	return d.takeover(p.name+" releases", "the release", p.released)
}

func (d *director) mark(p *player, at time.Duration, what string) {
	p.marks = append(p.marks, mark{at, what})
}

// timeline is what has happened, on a clock that begins with the demo.
func (d *director) timeline(end time.Duration) *timeline {
	t := &timeline{takeovers: d.takeovers, samples: d.samples, end: end - d.start}
	for _, p := range d.actors {
		s := p.story
		s.shift(-d.start)
		t.stories = append(t.stories, &s)
	}
	return t
}
