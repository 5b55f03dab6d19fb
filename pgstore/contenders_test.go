package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/history"
	"github.com/ownerlease/owner/internal/pgtest"
)

// A trial is a lease, its contenders, and what they have seen, which the torture run's
// checker judges at the end.
type trial struct {
	*testing.T
	server *pgtest.Server
	key    string
	ttl    time.Duration
	now    func() time.Duration // the clock of all instances, as they are on one machine

	contenders []*contender
	disturbed  []history.Span
	stormy     bool // a release may fail

	mu      sync.Mutex
	tenures []history.Tenure
}

func newTrial(t *testing.T, server *pgtest.Server, ttl time.Duration) *trial {
	t.Helper()
	return &trial{T: t, server: server, key: "leases/" + strings.ReplaceAll(t.Name(), "'", ""), ttl: ttl, now: (&store{}).Now}
}

// A contender is a standby, owns the lease, and does so again after a loss.
type contender struct {
	*trial
	name  string
	net   *pgtest.Proxy
	db    *DB
	spy   *spy
	leave context.CancelFunc
	gone  chan struct{}
	once  atomic.Bool // it does not come back when it has owned

	present atomic.Pointer[owner.Owner] // while it owns
	lost    chan *owner.LostError       // its losses
	yield   chan chan time.Duration     // asks it to release, and gets the time before
}

// contend adds a contender, as in a process of its own, with a network of its own.
func (tr *trial) contend() *contender {
	tr.Helper()
	return tr.contendBy(tr.server.Proxy(tr.T), "")
}

// contendBy adds a contender on this network, or at this server.
func (tr *trial) contendBy(net *pgtest.Proxy, dsn string) *contender {
	tr.Helper()
	if net != nil {
		dsn = net.DSN()
	}
	ctx, leave := context.WithCancel(context.Background())
	db := open(tr.T, fmt.Sprintf("%s application_name='%s/%d'", dsn, tr.key, len(tr.contenders)))
	c := &contender{
		trial: tr, name: fmt.Sprintf("contender %d", len(tr.contenders)), net: net, db: db,
		spy:   &spy{Store: New(db, tr.key)},
		leave: leave, gone: make(chan struct{}),
		lost: make(chan *owner.LostError, 100), yield: make(chan chan time.Duration),
	}
	tr.contenders = append(tr.contenders, c)
	go func() {
		defer close(c.gone)
		for ctx.Err() == nil && !c.live(ctx) {
			c.pause(ctx)
		}
	}()
	tr.Cleanup(c.end)
	return c
}

// end has the contender leave, and waits until it has.
func (c *contender) end() {
	c.leave()
	if c.net != nil {
		c.net.Heal()
	}
	<-c.gone
}

func (c *contender) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// live is one membership. It reports whether it was the last.
func (c *contender) live(ctx context.Context) (last bool) {
	t := history.Tenure{Lease: c.key, By: c.name, Sought: c.now(), Margin: c.ttl / 4}
	t.Joined = t.Sought
	defer func() { c.tell(t) }()
	// Its life does not end with ctx, so that it leaves as an owner does.
	o, err := owner.Join(context.Background(), owner.Config{
		Store: c.spy, TTL: c.ttl, SafetyMargin: t.Margin, RenewInterval: c.ttl / 12, Standby: true,
	})
	if err != nil {
		if !errors.Is(err, owner.ErrUnavailable) {
			c.Errorf("%s: %v", c.name, err)
		}
		t.Over = c.now()
		return false
	}
	defer func() {
		_ = o.Release()
		<-o.Done()
	}()
	select {
	case <-o.Elected():
		c.own(ctx, o, &t)
		return c.once.Load()
	case <-ctx.Done():
		t.Over = c.now()
		return true
	}
}

// own owns, until the ownership ends or is to be released.
func (c *contender) own(ctx context.Context, o *owner.Owner, t *history.Tenure) {
	c.present.Store(o)
	t.Instance, t.Epoch = o.InstanceID(), o.Epoch()
	t.Sought = max(t.Sought, time.Duration(c.spy.sought.Load()))
	began, lost := c.hold(ctx, o, t)
	c.present.Store(nil)
	if lost {
		c.lose(o, t)
	} else {
		t.Freed, t.End = c.now(), history.Released
		if began != nil {
			began <- t.Freed
		}
		if err := o.Release(); err != nil && !c.stormy {
			c.Errorf("%s: %v", c.name, err)
		}
	}
	for range 3 { // the answer must stay no
		c.ask(o, t)
	}
	// A lost lease is held until it expires, unless it is released before.
	for lost && c.now() < t.Expiry {
		time.Sleep(time.Millisecond)
	}
}

// hold asks IsOwner again and again until it returns false, or until the lease is to be
// released.
func (c *contender) hold(ctx context.Context, o *owner.Owner, t *history.Tenure) (began chan time.Duration, lost bool) {
	for c.ask(o, t) {
		select {
		case <-ctx.Done():
			return nil, false
		case began := <-c.yield:
			return began, false
		case <-time.After(time.Millisecond):
		}
	}
	return nil, true
}

// ask asks IsOwner. The answer was true at some moment between the two readings of
// the clock.
func (c *contender) ask(o *owner.Owner, t *history.Tenure) bool {
	asked := c.now()
	owns := o.IsOwner()
	answered := c.now()
	t.Expiry = c.spy.expires()
	switch {
	case owns:
		if t.Owned == 0 {
			t.Owned = answered
		}
		t.Valid = asked
	case t.Over == 0:
		t.Over = answered
	}
	return owns
}

// lose records a loss that the owner had to notice at once. A slow machine cannot be
// distinguished from a missing notification, so what counts is how often the contender
// could ask meanwhile.
func (c *contender) lose(o *owner.Owner, t *history.Tenure) {
	asked := 0
	for told := false; !told; asked++ {
		select {
		case <-o.Lost():
			told = true
		case <-time.After(time.Millisecond):
		}
	}
	var lost *owner.LostError
	if !errors.As(o.LostErr(), &lost) {
		c.Errorf("%s: %v", c.name, o.LostErr())
		return
	}
	switch {
	case errors.Is(lost, owner.ErrTakenOver):
		t.End = history.TakenOver
	case errors.Is(lost, owner.ErrRevoked):
		t.End = history.Revoked
	default:
		// It would have said yes until then.
		t.Valid = max(t.Valid, min(t.Expiry-t.Margin, t.Over))
		t.End = history.Expired
	}
	if asked > 200 {
		c.Errorf("%s had to ask %d times before it noticed its loss: %v", c.name, asked, lost)
	}
	c.Logf("%s: %v", c.name, lost)
	c.lost <- lost
}

func (tr *trial) tell(t history.Tenure) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.tenures = append(tr.tenures, t)
}

// owner waits until one of the contenders owns.
func (tr *trial) owner() (by *contender) {
	tr.Helper()
	await(tr, "an owner", func() bool {
		i := slices.IndexFunc(tr.contenders, func(c *contender) bool { return c.owns() })
		if i >= 0 {
			by = tr.contenders[i]
		}
		return i >= 0
	})
	return by
}

func (c *contender) owns() bool {
	o := c.present.Load()
	return o != nil && o.IsOwner()
}

// settles waits until a contender owns, and has renewed since.
func (tr *trial) settles() *contender {
	tr.Helper()
	for {
		c := tr.owner()
		from := c.spy.from()
		await(tr, "a renewal", func() bool { return c.spy.from() > from || !c.owns() })
		if c.owns() {
			return c
		}
	}
}

// renews demands that the contender continues to own, and renews this many times.
func (tr *trial) renews(c *contender, times int) {
	tr.Helper()
	for range times {
		from := c.spy.from()
		await(tr, "a renewal", func() bool { return c.spy.from() > from || !c.owns() })
	}
	if !c.owns() {
		tr.Errorf("%s does not own the lease any more", c.name)
	}
}

// loses waits until the contender has lost the lease.
func (c *contender) loses() *owner.LostError {
	c.Helper()
	await(c, "a loss", func() bool { return len(c.lost) > 0 })
	return <-c.lost
}

// releases has the owner release, and returns when that began.
func (c *contender) releases() time.Duration {
	c.Helper()
	began := make(chan time.Duration, 1)
	select {
	case c.yield <- began:
		return <-began
	case <-time.After(c.ttl):
		c.Fatalf("%s does not own the lease", c.name)
		return 0
	}
}

// looked waits until each but the owner has read the lease once more from the beginning.
func (tr *trial) looked(all ...*contender) {
	tr.Helper()
	for _, c := range all {
		begun := c.spy.begun.Load()
		await(tr, c.name+" to read", func() bool { return c.spy.ended.Load() > begun || c.owns() })
	}
}

// disturb does something during which no contender can be expected to acquire the lease.
func (tr *trial) disturb(do func()) {
	from := tr.now()
	do()
	tr.disturbed = append(tr.disturbed, history.Span{From: from, To: tr.now()})
}

// patience is with a lease that is free, wanted, and not disturbed. It ends a hang, as
// a machine can be busy.
const patience = 20 * time.Second

// judge ends the trial, and has what was seen judged.
func (tr *trial) judge() {
	tr.Helper()
	for _, c := range tr.contenders {
		c.leave()
	}
	for _, c := range tr.contenders {
		c.end()
	}
	h := history.History{Tenures: tr.tenures, Disturbed: map[string][]history.Span{tr.key: tr.disturbed}}
	v, err := h.Check(patience)
	if err != nil {
		tr.Error(err)
	}
	tr.write()
	for _, x := range v.Violations {
		tr.Error(x)
	}
	tr.kept()
	var all strings.Builder
	for _, t := range tr.tenures {
		fmt.Fprintf(&all, "\n%v, expiry %v", &t, t.Expiry)
	}
	tr.Log(all.String())
}

// write writes the tenures where the environment says, for a second opinion: see
// lab/order.
func (tr *trial) write() {
	tr.Helper()
	dir := os.Getenv("OWNER_HISTORIES")
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, "*.json")
	must(tr, err)
	for i := range tr.tenures {
		must(tr, json.NewEncoder(f).Encode(&tr.tenures[i]))
	}
	must(tr, f.Close())
}

// kept demands more than the margin, which is all that an Owner promises: a lost lease
// that is not released has no other owner until it has expired, whatever was deleted.
func (tr *trial) kept() {
	tr.Helper()
	for _, a := range tr.tenures {
		for _, b := range tr.tenures {
			if a.Epoch > 0 && a.Epoch < b.Epoch && a.End != history.Released && b.Owned > 0 && b.Owned < a.Expiry {
				tr.Errorf("not kept until it had expired, at %v:\n%v\n%v", a.Expiry, &a, &b)
			}
		}
	}
}

// A spy is a store that knows what has been asked of it.
type spy struct {
	owner.Store
	ttl     atomic.Int64
	sought  atomic.Int64 // when the last attempt to acquire was begun
	first   atomic.Int64 // what the last ownership's first TTL counts from
	counts  atomic.Int64 // what its last TTL counts from
	elected atomic.Int64 // when the last attempt was won

	begun, ended atomic.Int64 // reads
	failed       atomic.Int64 // attempts to acquire, and renewals
	hints        atomic.Int64
}

func (s *spy) from() time.Duration    { return time.Duration(s.counts.Load()) }
func (s *spy) expires() time.Duration { return s.from() + time.Duration(s.ttl.Load()) }

func (s *spy) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	s.sought.Store(int64(s.Now()))
	acq, err := s.Store.Acquire(ctx, claim)
	if err != nil {
		s.failed.Add(1)
	}
	if acq.Lease != nil {
		s.elected.Store(int64(s.Now()))
		s.ttl.Store(int64(claim.TTL))
		s.first.Store(int64(acq.From))
		s.counts.Store(int64(acq.From))
		acq.Lease = &spiedLease{acq.Lease, s}
	}
	return acq, err
}

func (s *spy) Look(ctx context.Context) (owner.View, error) {
	n := s.begun.Add(1)
	view, err := s.Store.Look(ctx)
	if err == nil {
		s.ended.Store(n)
	}
	return view, err
}

func (s *spy) Watch(holder owner.Record, hint func()) (func(), error) {
	return s.Store.Watch(holder, func() {
		s.hints.Add(1)
		hint()
	})
}

type spiedLease struct {
	owner.Lease
	spy *spy
}

func (l *spiedLease) Renew(ctx context.Context, at time.Duration) error {
	err := l.Lease.Renew(ctx, at)
	switch {
	case err != nil:
		l.spy.failed.Add(1)
	case l.spy.Now() < l.spy.expires(): // otherwise it comes too late to count
		l.spy.counts.Store(int64(at))
	}
	return err
}

// await waits until something is so.
func await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}
