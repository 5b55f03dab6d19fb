package ownertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/history"
)

// What Owners do on a store.

func (c *check) config(endpoint string, ttl time.Duration) owner.Config {
	return owner.Config{Store: c.store, TTL: ttl, Endpoint: endpoint}
}

// join joins. What comes of it is released at the end of the test.
func (c *check) join(cfg owner.Config) *owner.Owner {
	c.Helper()
	o, err := owner.Join(context.Background(), cfg)
	c.must("Join", err)
	c.Cleanup(func() { c.leave(o) })
	return o
}

// leave releases, and waits until no goroutine of the Owner is left.
func (c *check) leave(o *owner.Owner) {
	c.Helper()
	var err error
	c.returns("Owner.Release", func() { err = o.Release() })
	if err != nil {
		c.Errorf("Owner.Release: %v", err)
	}
	c.await("Owner.Done, after Release", o.Done())
}

// Of many that join at once, one owns, and the others follow it.
func oneOwner(c *check) {
	const many = 8
	joined := make([]*owner.Owner, many)
	c.returns("Join, by many at once", func() {
		var wg sync.WaitGroup
		for i := range joined {
			wg.Go(func() {
				o, err := owner.Join(context.Background(), c.config(fmt.Sprint("unix:/run/", i), long))
				if err != nil {
					c.Errorf("Join: %v", err)
				}
				joined[i] = o
			})
		}
		wg.Wait()
	})
	var first *owner.Owner
	for _, o := range joined {
		if o == nil {
			return
		}
		defer c.leave(o)
		switch {
		case !o.IsOwner():
		case first != nil:
			c.Errorf("two own: epochs %d and %d", first.Epoch(), o.Epoch())
		default:
			first = o
		}
	}
	if first == nil {
		c.Fatal("none owns")
	}
	for _, o := range joined {
		if o.InstanceID() != first.InstanceID() || o.Endpoint() != first.Endpoint() || o.Epoch() != first.Epoch() {
			c.Errorf("a follower knows %s at %q, epoch %d; the owner is %s at %q, epoch %d",
				o.InstanceID(), o.Endpoint(), o.Epoch(), first.InstanceID(), first.Endpoint(), first.Epoch())
		}
	}
}

// After each release one standby owns, and only one.
func handover(c *check) {
	const many = 4
	elected := make(chan *owner.Owner, many)
	for i := range many {
		cfg := c.config(fmt.Sprint("unix:/run/", i), long)
		cfg.Standby = true
		o := c.join(cfg)
		go func() {
			select {
			case <-o.Elected():
				elected <- o
			case <-o.Done():
			}
		}()
	}
	var before *owner.Owner
	for n := range many {
		released := time.Now()
		if before != nil {
			c.leave(before)
		}
		var o *owner.Owner
		c.returns("an election", func() { o = <-elected })
		if before != nil {
			c.Logf("handover %d took %v", n, time.Since(released))
			if o.Epoch() <= before.Epoch() {
				c.Errorf("the epoch is %d, and was %d before", o.Epoch(), before.Epoch())
			}
		}
		if !o.IsOwner() {
			c.Errorf("elected, and not the owner: %v", o.Check())
		}
		if len(elected) > 0 {
			c.Fatal("two are elected at once")
		}
		before = o
	}
}

// An owner that hangs has stopped in time, and another owns afterwards.
func hungOwner(c *check) {
	for range 10 {
		if c.hangOwner() {
			return
		}
	}
	c.Fatalf("the machine is too slow for a TTL of %v", c.ttl)
}

// hangOwner returns false where the machine was too slow to see anything.
func (c *check) hangOwner() bool {
	access := &hangable{Store: c.store, check: c}
	cfg := c.config("unix:/run/hung", c.ttl)
	cfg.Store = access
	var first, next *owner.Owner
	var err error
	c.returns("Campaign", func() { first, err = owner.Campaign(c.Context(), cfg) })
	c.must("Campaign", err)
	defer first.Release() // a store that hangs returns an error
	access.hang()
	var owned time.Duration // since when at the latest
	elected := make(chan struct{})
	go func() {
		defer close(elected)
		next, err = owner.Campaign(c.Context(), c.config("unix:/run/next", c.ttl))
		owned = c.store.Now()
	}()
	seen, valid := false, time.Duration(0)
	for asked := c.store.Now(); first.IsOwner(); asked = c.store.Now() {
		seen, valid = true, asked
		time.Sleep(100 * time.Microsecond)
	}
	c.await("Lost, of an owner that cannot renew", first.Lost())
	if err := first.LostErr(); !errors.Is(err, owner.ErrExpired) {
		c.Errorf("lost: %v, want ErrExpired", err)
	}
	c.await("the election of a successor, after the lease has expired", elected)
	c.must("Campaign, of the successor", err)
	defer next.Release() // where the machine is slow, the lease may have expired
	if seen && owned < valid+c.ttl/4 {
		c.Errorf("%v after the other has stopped, another owns: less than the safety margin of %v", owned-valid, c.ttl/4)
	}
	if next.Epoch() <= first.Epoch() {
		c.Errorf("the epoch is %d, and was %d before", next.Epoch(), first.Epoch())
	}
	return seen
}

// A hangable store can be made to hang: none of its leases is renewed or released from
// then on.
type hangable struct {
	owner.Store
	*check
	hung atomic.Bool
}

func (s *hangable) hang() { s.hung.Store(true) }

func (s *hangable) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	acq, err := s.Store.Acquire(ctx, claim)
	if acq.Lease != nil {
		acq.Lease = &hangableLease{Lease: acq.Lease, store: s}
	}
	return acq, err
}

type hangableLease struct {
	owner.Lease
	store *hangable
}

func (l *hangableLease) Renew(ctx context.Context, at time.Duration) error {
	if l.store.hung.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return l.Lease.Renew(ctx, at)
}

func (l *hangableLease) Release(ctx context.Context) error {
	if !l.store.hung.Load() {
		return l.Lease.Release(ctx)
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	l.store.abandoned = append(l.store.abandoned, l.Lease)
	return errors.New("the store hangs")
}

// Run does the work of several in turns, and never two at once.
func runTakesTurns(c *check) {
	var working, done atomic.Int64
	work := func(_ context.Context, o *owner.Owner) error {
		if working.Add(1) > 1 {
			c.Error("two work at once")
		}
		if !o.IsOwner() {
			c.Errorf("the work is called, and this is not the owner: %v", o.Check())
		}
		time.Sleep(time.Millisecond)
		working.Add(-1)
		done.Add(1)
		return nil
	}
	const many, times = 3, 4
	c.returns("Run", func() {
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() {
				for range times {
					if err := owner.Run(context.Background(), c.config("", long), work); err != nil {
						c.Errorf("Run: %v", err)
					}
				}
			})
		}
		wg.Wait()
	})
	if n := done.Load(); n != many*times {
		c.Errorf("worked %d times, want %d", n, many*times)
	}
}

// WatchStore reports every owner, and the time without one in between.
func watchStore(c *check) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	told := make(chan string)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for rec, err := range owner.WatchStore(ctx, c.store) {
			if err != nil {
				c.Errorf("WatchStore: %v", err)
			}
			if err != nil || rec.InstanceID != "" && rec.Epoch == 0 { // the whole record follows
				continue
			}
			select {
			case told <- rec.InstanceID:
			case <-ctx.Done():
			}
		}
	}()
	expect := func(what, id string) {
		c.Helper()
		got := ""
		c.returns("WatchStore, to report "+what, func() { got = <-told })
		if got != id {
			c.Errorf("WatchStore reports that %q owns; want %s, %q", got, what, id)
		}
	}
	expect("no owner", "")
	for range 3 {
		o := c.join(c.config("", long))
		expect("the owner", o.InstanceID())
		c.leave(o)
		expect("no owner", "")
	}
	cancel()
	c.await("the end of WatchStore, after that of its context", ended)
}

// Several instances come and go, in all the ways in which one can, for several TTLs. No
// two may be valid at once, and the other rules must hold that package history checks in
// their reports.
func wholeHistory(c *check) {
	const many = 4
	var mu sync.Mutex
	var h history.History
	owned := 0
	var turns atomic.Int64
	began := c.store.Now() - time.Second // in a history, 0 is a moment that has not come
	ctx, cancel := context.WithTimeout(context.Background(), c.patience/2)
	defer cancel()
	end := time.Now().Add(max(2*time.Second, 4*c.ttl))
	c.returns("what several instances do for a while", func() {
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				for ctx.Err() == nil {
					p := c.player(fmt.Sprint("instance ", i+1), began)
					p.turn = turns.Add(1)
					p.play(ctx)
					mu.Lock()
					h.Tenures = append(h.Tenures, p.tenure)
					if p.tenure.Owned > 0 {
						owned++
					}
					if owned > 2*many && time.Now().After(end) { // on a slow machine it takes longer
						cancel()
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	})
	v, err := h.Check(c.patience)
	c.must("the history", err)
	for _, violation := range v.Violations {
		c.Errorf("%v", violation)
	}
	if owned <= 2*many {
		c.Fatalf("only %d have owned within %v", owned, c.patience/2)
	}
	c.Logf("%d have owned; without an owner for %v at most, while there was a standby", v.Owned, v.Vacancy.Length())
}

// A player is an instance that owns the lease once, for some time, and writes down
// what it sees.
type player struct {
	*check
	turn   int64 // of all, which decides how it leaves
	began  time.Duration
	access *hangable // to the store
	cfg    owner.Config
	tenure history.Tenure
}

func (c *check) player(name string, began time.Duration) *player {
	p := &player{check: c, began: began, access: &hangable{Store: c.store, check: c}}
	p.cfg = c.config("", c.ttl)
	p.cfg.Store = p.access
	p.cfg.SafetyMargin = c.ttl/10 + rand.N(c.ttl/4)
	now := p.now()
	p.tenure = history.Tenure{Lease: "the lease", By: name, Sought: now, Joined: now, Margin: p.cfg.SafetyMargin}
	return p
}

// now counts from a moment before the history's first.
func (p *player) now() time.Duration { return p.store.Now() - p.began }

// play is a standby, or tries again and again; owns; and leaves.
func (p *player) play(ctx context.Context) {
	life, end := context.WithCancel(ctx)
	defer end()
	join := owner.Campaign
	if rand.IntN(2) == 0 {
		join = p.tryAgain
	}
	o, err := join(life, p.cfg)
	if err != nil {
		if ctx.Err() == nil {
			p.Errorf("Campaign, or Join: %v", err)
		}
		p.tenure.Over = p.now()
		return
	}
	p.tenure.Instance, p.tenure.Epoch = o.InstanceID(), o.Epoch()
	stay := rand.N(20 * time.Millisecond)
	switch p.turn % 16 {
	case 9: // until after some renewals
		p.hold(o, p.ttl+rand.N(p.ttl))
	case 1: // its store hangs
		p.hold(o, stay)
		p.access.hang()
		p.hold(o, time.Hour)
	case 5: // its context ends: it does not renew
		p.hold(o, stay)
		end()
		p.hold(o, time.Hour)
	default:
		p.hold(o, stay)
	}
	p.free(o)
}

// tryAgain joins again and again, whichever instance owns.
func (p *player) tryAgain(ctx context.Context, cfg owner.Config) (*owner.Owner, error) {
	p.tenure.Joined = 0 // it is not a standby
	for {
		p.tenure.Sought = p.now()
		o, err := owner.Join(ctx, cfg)
		if err != nil && !errors.Is(err, owner.ErrUnavailable) || err == nil && o.Role() == owner.RoleOwner {
			return o, err
		}
		time.Sleep(rand.N(5 * time.Millisecond))
	}
}

// hold asks whether it owns, until it does not any more, or for so long.
func (p *player) hold(o *owner.Owner, stay time.Duration) {
	for began := time.Now(); time.Since(began) < stay && p.ask(o); {
		time.Sleep(200 * time.Microsecond)
	}
}

// ask asks whether it owns. The answer was true at some moment between the two
// readings of the clock.
func (p *player) ask(o *owner.Owner) bool {
	asked := p.now()
	owns := o.IsOwner()
	answered := p.now()
	t := &p.tenure
	switch {
	case owns:
		t.Owned = cmp.Or(t.Owned, answered)
		t.Valid = asked
		t.Expiry = max(t.Expiry, p.now()-time.Since(o.Holder().RenewedAt)+p.cfg.TTL)
	case t.Over == 0:
		t.Over = answered
	}
	return owns
}

// free releases the lease that it owns, unless its store hangs.
func (p *player) free(o *owner.Owner) {
	p.tenure.End = history.Released
	if o.LostErr() != nil {
		p.tenure.End = history.Expired
	}
	if !p.access.hung.Load() {
		p.tenure.Freed = p.now()
	}
	_ = o.Release() // a store that hangs returns an error
	<-o.Done()
	for range 3 {
		p.ask(o) // the answer must stay no
	}
}
