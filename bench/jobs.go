package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// fsync measures the disk: etcd waits for it at every write, and a lease file never does.
func (b *bench) fsync(context.Context) error {
	f, err := os.Create(filepath.Join(b.dir, "fsync"))
	if err != nil {
		return err
	}
	defer f.Close()
	for range b.loops() {
		begun := time.Now()
		if _, err := f.Write(make([]byte, 512)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		b.add(jobFsync, "disk", time.Since(begun))
	}
	return nil
}

func (b *bench) renewals(peer string) trial {
	s := b.lease(peer)
	s.Renewals = true
	return b.solo(jobRenewal, s, "renew")
}

// solo measures something that one process does alone.
func (b *bench) solo(j job, s spec, do string) trial {
	return trial{s.Peer + ": " + string(j), func(ctx context.Context) error {
		c, err := start(ctx, s)
		if err != nil {
			return err
		}
		defer c.end()
		r, err := c.ask(do, b.loops())
		b.add(j, s.Peer, r.Took...)
		return err
	}}
}

// A pair is an owner and a standby, each in its own process.
type pair struct {
	old, next *child
	key       string
	won       chan reply // of next, or of the instance that is written into the record
	failed    chan error
}

// pair starts both, and returns when the one owns and the other waits, and at some
// moment of the phase after that.
func (b *bench) pair(ctx context.Context, oldSpec, nextSpec spec, phase time.Duration) (*pair, error) {
	p := &pair{won: make(chan reply, 2), failed: make(chan error, 1)}
	var err error
	if p.old, err = start(ctx, oldSpec); err != nil {
		return nil, err
	}
	if p.next, err = start(ctx, nextSpec); err != nil {
		p.old.end()
		return nil, err
	}
	if err := p.begin(); err != nil {
		p.end()
		return nil, err
	}
	pause(ctx, settle+rand.N(phase))
	return p, nil
}

func (p *pair) begin() error {
	if _, err := p.old.ask("stand"); err != nil {
		return err
	}
	r, err := p.old.ask("await")
	if err != nil {
		return err
	}
	p.key = r.Key
	if _, err := p.next.ask("stand"); err != nil {
		return err
	}
	go func() {
		r, err := p.next.ask("await")
		if err != nil {
			p.failed <- err
			return
		}
		p.won <- r
	}()
	return nil
}

// end ends both.
func (p *pair) end() {
	p.old.end()
	p.next.end()
}

// successor waits until the next one owns, and returns since when.
func (p *pair) successor() (time.Duration, error) {
	select {
	case r := <-p.won:
		return r.At, nil
	case err := <-p.failed:
		return 0, err
	}
}

// successorYet returns since when the next one owns; never, if it does not yet.
func (p *pair) successorYet() time.Duration {
	select {
	case r := <-p.won:
		return r.At
	default:
		return never
	}
}

// watch asks the old one what its views say, until all have said no, or for so
// long.
func (p *pair) watch(ctx context.Context, limit time.Duration) (reply, error) {
	for end := clock.Now() + limit; ; pause(ctx, 50*time.Millisecond) {
		r, err := p.old.ask("seen")
		if err != nil || allNo(r.Sights) || clock.Now() >= end {
			return r, err
		}
	}
}

func allNo(sights []Sight) bool {
	for _, s := range sights {
		if s.FirstNo == 0 {
			return false
		}
	}
	return true
}

func (b *bench) killed(peer string, phase time.Duration) trial {
	return trial{peer + ": " + string(jobKilled), func(ctx context.Context) error {
		s := b.lease(peer)
		p, err := b.pair(ctx, s, s, phase)
		if err != nil {
			return err
		}
		defer p.end()
		at := clock.Now()
		if err := p.old.cmd.Process.Kill(); err != nil {
			return err
		}
		next, err := p.successor()
		if err == nil {
			b.add(jobKilled, peer, next-at)
		}
		return err
	}}
}

func (b *bench) handover(peer string, phase time.Duration) trial {
	return trial{peer + ": " + string(jobHandover), func(ctx context.Context) error {
		s := b.lease(peer)
		s.Release = true
		p, err := b.pair(ctx, s, s, phase)
		if err != nil {
			return err
		}
		defer p.end()
		r, err := p.old.ask("release")
		if err != nil {
			return err
		}
		next, err := p.successor()
		if err == nil {
			b.add(jobHandover, peer, next-r.At)
		}
		return err
	}}
}

// stopped stops an owner until another owns, and resumes it.
func (b *bench) stopped(peer string) trial {
	return trial{peer + ": " + string(jobStop), func(ctx context.Context) error {
		s := b.lease(peer)
		observed := s
		observed.Observed = true
		p, err := b.pair(ctx, observed, s, longPhase)
		if err != nil {
			return err
		}
		defer p.end()
		if _, err := p.old.ask("work"); err != nil {
			return err
		}
		if err := p.old.stop(); err != nil {
			return err
		}
		if _, err := p.successor(); err != nil {
			return err
		}
		pause(ctx, settle)
		at := clock.Now()
		if err := p.old.resume(); err != nil {
			return err
		}
		r, err := p.watch(ctx, patience)
		if err != nil {
			return err
		}
		for _, seen := range r.Sights {
			if seen.Resumed < at {
				return fmt.Errorf("%s: the stop was not noticed", seen.View)
			}
			b.add(jobStop, seen.View, since(at, seen.FirstNo))
			b.add(jobStopWrong, seen.View, oneIf(seen.ResumedYes))
			b.add(jobStopBoth, seen.View, together(at, &seen))
		}
		return nil
	}}
}

// hangs are the trials in which the store hangs for the owner, and only for it.
func (b *bench) hangs() (all []trial) {
	variant := func(peer string, set func(*spec)) {
		s := b.lease(peer)
		set(&s)
		all = append(all, b.hang(s))
	}
	register := func(s *spec) { s.Addr, s.Register = b.listen.Addr().String(), true }
	deaf := func(s *spec) { s.Deaf = true }
	variant(peerOwner, register)
	variant(peerOwner, func(s *spec) { register(s); deaf(s) })
	variant(peerEtcd, func(*spec) {})
	variant(peerClientGo, func(*spec) {})
	variant(peerClientGo, func(s *spec) { s.Release = true })
	variant(peerClientGo, deaf)
	return all
}

func (b *bench) hang(s spec) trial {
	return trial{s.Peer + ": " + string(jobHang) + s.variant(), func(ctx context.Context) error {
		observed := s
		observed.Observed = true
		hang, end, err := b.hanging(&observed)
		if err != nil {
			return err
		}
		defer end()
		p, err := b.pair(ctx, observed, s, longPhase)
		if err != nil {
			return err
		}
		defer p.end()
		if err := hang(p, true); err != nil {
			return err
		}
		r, err := p.watch(ctx, patience)
		if err != nil {
			return err
		}
		renewed := r.Renewed // before the store is back
		if err := hang(p, false); err != nil {
			return err
		}
		if r, err = p.watch(ctx, ttl); err != nil {
			return err
		}
		next, err := p.successor()
		if err != nil {
			return err
		}
		for _, seen := range r.Sights {
			b.add(jobHang, seen.View+s.variant(), -since(renewed+ttl, seen.FirstNo))
			b.add(jobHangBoth, seen.View+s.variant(), together(next, &seen))
		}
		return nil
	}}
}

// hanging returns how to make the store hang only for the contender of a spec: in its own
// process, or by a proxy in front of its server.
func (b *bench) hanging(s *spec) (hang func(p *pair, on bool) error, end func(), err error) {
	if s.Peer != peerEtcd {
		return func(p *pair, on bool) error {
			_, err := p.old.ask(map[bool]string{true: "hang", false: "recover"}[on])
			return err
		}, func() {}, nil
	}
	x, err := startProxy(s.Addr)
	if err != nil {
		return nil, nil, err
	}
	s.Addr = x.addr()
	return func(_ *pair, on bool) error { x.gate.hang(on); return nil }, x.close, nil
}

// behinds are the trials in which the lease's record is taken away or overwritten
// behind its owner's back.
func (b *bench) behinds() (all []trial) {
	all = []trial{
		b.behind(b.lease(peerEtcd), func(ctx context.Context, s spec, p *pair) (time.Duration, error) {
			return removeKey(ctx, s.Addr, p.key)
		}),
		b.behind(b.lease(peerClientGo), func(_ context.Context, s spec, p *pair) (time.Duration, error) {
			data, err := json.Marshal(resourcelock.LeaderElectionRecord{
				HolderIdentity: "somebody else", LeaseDurationSeconds: int(ttl / time.Second),
			})
			at := clock.Now()
			b.register.overwrite(s.Name, data)
			p.won <- reply{At: at} // from here on, the record says that another owns
			return at, err
		}),
	}
	if onUnix {
		remove := func(_ context.Context, s spec, _ *pair) (time.Duration, error) {
			return clock.Now(), os.Remove(s.Name)
		}
		all = append(all, b.behind(b.lease(peerOwner), remove), b.behind(b.lease(peerTryLock), remove))
	}
	return all
}

func (b *bench) behind(s spec, change func(context.Context, spec, *pair) (time.Duration, error)) trial {
	return trial{s.Peer + ": " + string(jobBehind), func(ctx context.Context) error {
		observed := s
		observed.Observed = true
		p, err := b.pair(ctx, observed, s, longPhase)
		if err != nil {
			return err
		}
		defer p.end()
		at, err := change(ctx, s, p)
		if err != nil {
			return err
		}
		r, err := p.watch(ctx, patience)
		if err != nil {
			return err
		}
		next := p.successorYet()
		for _, seen := range r.Sights {
			b.add(jobBehind, seen.View, since(at, seen.FirstNo))
			b.add(jobBehindBoth, seen.View, together(next, &seen))
		}
		return nil
	}}
}

// since is how long after a moment another one came; never, if it did not.
func since(at, came time.Duration) time.Duration {
	if came == 0 {
		return never
	}
	return came - at
}

// together is how long a view said that its process owned, while the next one did.
func together(next time.Duration, s *Sight) time.Duration {
	switch {
	case s.LastYes <= next:
		return 0
	case s.FirstNo == 0:
		return never
	}
	return s.LastYes - next
}

func oneIf(yes bool) time.Duration {
	if yes {
		return 1
	}
	return 0
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
