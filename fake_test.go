package owner

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeStore is a lease in memory whose operations a test can replace. It is for
// the actor's tests, under synctest: its clock is the bubble's.
type fakeStore struct {
	mu       sync.Mutex
	start    time.Time
	slow     time.Duration // what one second of Go's clock is by the store's; 0: a second
	ahead    atomic.Int64  // how far the store's clock has jumped, in nanoseconds
	holder   Record        // of the present or last owner
	epoch    uint64
	renewals int // calls of Renew that have returned
	releases int // calls of Release that have returned
	looks    int // calls of Look that have returned

	expires time.Duration // when the lease expires, as others see it; 0: never

	watchers map[*int]func() // the subscriptions to hints
	watchErr error           // of Watch

	// What the operations do besides; nil: nothing, at once.
	onAcquire, onLook, onRenew, onRelease, onAdvertise hook
}

type hook = func(ctx context.Context) error

// set changes a hook while operations may be running.
func (s *fakeStore) set(h *hook, to hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*h = to
}

// run runs a hook, outside mu.
func (s *fakeStore) run(ctx context.Context, h *hook) error {
	s.mu.Lock()
	f := *h
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx)
}

func newFakeStore() *fakeStore { return &fakeStore{start: time.Now()} }

func (s *fakeStore) Now() time.Duration {
	d := time.Since(s.start)
	if s.slow > 0 {
		d = d / time.Second * s.slow
	}
	return d + time.Duration(s.ahead.Load())
}

func (s *fakeStore) Acquire(ctx context.Context, claim Record) (Acquisition, error) {
	from := s.Now()
	if err := s.run(ctx, &s.onAcquire); err != nil {
		return Acquisition{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held() {
		return Acquisition{Holder: s.holder}, nil
	}
	s.expires = 0
	s.epoch++
	claim.Epoch, claim.AcquiredAt = s.epoch, time.Now()
	s.holder = claim
	defer s.hint()
	return Acquisition{Holder: claim, Lease: &fakeLease{s: s, id: claim.InstanceID}, From: from}, nil
}

type fakeLease struct {
	s  *fakeStore
	id string
}

func (l *fakeLease) Renew(ctx context.Context, at time.Duration) error {
	defer l.s.count(&l.s.renewals)
	return l.s.run(ctx, &l.s.onRenew)
}

func (l *fakeLease) Advertise(ctx context.Context, meta map[string]string) error {
	if err := l.s.run(ctx, &l.s.onAdvertise); err != nil {
		return err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.holder.InstanceID == l.id {
		l.s.holder.Meta = meta
		l.s.hint()
	}
	return nil
}

func (l *fakeLease) Release(ctx context.Context) error {
	defer l.s.count(&l.s.releases)
	err := l.s.run(ctx, &l.s.onRelease)
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.holder.InstanceID == l.id {
		l.s.holder.Released = true
		defer l.s.hint()
	}
	return err
}

func (s *fakeStore) Look(ctx context.Context) (View, error) {
	defer s.count(&s.looks)
	if err := s.run(ctx, &s.onLook); err != nil {
		return View{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held() {
		return View{}, nil
	}
	return View{Holder: s.holder, Until: s.expires}, nil
}

// held reports whether others have to take the lease for owned; mu is held.
func (s *fakeStore) held() bool {
	return s.holder.InstanceID != "" && !s.holder.Released && (s.expires == 0 || s.Now() < s.expires)
}

func (s *fakeStore) Watch(_ Record, hint func()) (stop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := new(int)
	if s.watchers == nil {
		s.watchers = map[*int]func(){}
	}
	if s.watchErr == nil {
		s.watchers[key] = hint
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, key)
	}, s.watchErr
}

// hint calls all watchers; mu is held.
func (s *fakeStore) hint() {
	for _, h := range s.watchers {
		h()
	}
}

// die frees the lease of an owner that does not know it, and gives the watchers a hint if
// hint is set.
func (s *fakeStore) die(hint bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holder.Released = true
	if hint {
		s.hint()
	}
}

// watched returns how many subscriptions there are.
func (s *fakeStore) watched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers)
}

func (s *fakeStore) count(n *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

// free reports whether no process owns the lease.
func (s *fakeStore) free() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder.InstanceID == "" || s.holder.Released
}

// counted returns how many renewals and releases have returned.
func (s *fakeStore) counted() (renewals, releases int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewals, s.releases
}

// hang returns an operation that ends when the returned function is called, and
// not with its context: a disk that hangs.
func hang() (operation func(context.Context) error, answer func()) {
	c := make(chan struct{})
	return func(context.Context) error { <-c; return nil }, sync.OnceFunc(func() { close(c) })
}

// moves collects transitions as text.
type moves struct {
	mu  sync.Mutex
	all []Transition
}

func (m *moves) add(t Transition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, t)
}

func (m *moves) events() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := ""
	for _, t := range m.all {
		s += t.Event + " "
	}
	return s
}

// check fails the test if the collected transitions do not hang together.
func (m *moves) check(tb testing.TB) {
	tb.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	at := StateFollower
	for i, t := range m.all {
		if t.From != at || destination(t.From, event(t.Event)) != t.To {
			tb.Errorf("transition %d: %v, expected from %s", i, t, at)
		}
		at = t.To
	}
}

func (t Transition) String() string {
	return fmt.Sprintf("%s -%s-> %s", t.From, t.Event, t.To)
}

// closed reports whether a channel is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
