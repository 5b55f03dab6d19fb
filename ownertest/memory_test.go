package ownertest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ownerlease/owner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	TestStore(t, func(*testing.T) owner.Store { return &careful{NewMemory()} },
		Peer(func(_ *testing.T, s owner.Store) owner.Store { return s.(*careful).Peer() }),
		LostAnswers(func(_ *testing.T, s owner.Store) func() {
			m := s.(*careful).Memory
			m.Late(0, owner.ErrUnavailable, Acquire)
			return func() { m.Heal(Acquire) }
		}))
}

// A careful store is a Memory that gives back what it may have acquired, as stores have to.
type careful struct{ *Memory }

func (s *careful) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	acq, err := s.Memory.Acquire(ctx, claim)
	if err != nil {
		_ = (&memoryLease{s.Peer(), claim}).Release(ctx)
	}
	return acq, err
}

var errDisk = errors.New("no space left on device")

// bubble runs a test of a Memory on which an instance owns the lease for a minute.
func bubble(t *testing.T, f func(t *testing.T, m *Memory, l owner.Lease)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		acq, err := m.Acquire(t.Context(), claim(time.Minute))
		if err != nil || acq.Lease == nil || acq.From != 0 {
			t.Fatalf("%+v, %v", acq, err)
		}
		f(t, m, acq.Lease)
	})
}

// until is when others see the lease expire, 0 if it is free.
func until(m *Memory) time.Duration {
	m = m.Peer() // which has no faults
	view, _ := m.Look(context.Background())
	return view.Until
}

// renewed starts a renewal, and returns its result and when it came.
func renewed(ctx context.Context, m *Memory, l owner.Lease) (after time.Duration, err error) {
	at := m.Now()
	err = l.Renew(ctx, at)
	return m.Now() - at, err
}

func TestSlow(t *testing.T) {
	bubble(t, func(t *testing.T, m *Memory, l owner.Lease) {
		m.Slow(10*time.Second, Renew)
		time.Sleep(time.Second)
		time.AfterFunc(10*time.Second-1, func() {
			if got := until(m); got != time.Minute {
				t.Errorf("applied too early: until %v", got)
			}
		})
		if after, err := renewed(t.Context(), m, l); err != nil || after != 10*time.Second || until(m) != 61*time.Second {
			t.Errorf("%v after %v, until %v", err, after, until(m))
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errDisk)
		defer cancel()
		if after, err := renewed(ctx, m, l); !errors.Is(err, errDisk) || after != time.Second || until(m) != 61*time.Second {
			t.Errorf("%v after %v, until %v", err, after, until(m))
		}
		if view, err := m.Look(t.Context()); err != nil || view.Free() || m.Now() != 12*time.Second {
			t.Errorf("another kind of calls: %+v, %v, at %v", view, err, m.Now())
		}
	})
}

func TestFail(t *testing.T) {
	bubble(t, func(t *testing.T, m *Memory, l owner.Lease) {
		time.Sleep(time.Second)
		m.Fail(errDisk)
		if after, err := renewed(t.Context(), m, l); !errors.Is(err, errDisk) || after != 0 || until(m) != time.Minute {
			t.Errorf("%v after %v, until %v", err, after, until(m))
		}
		if err := l.Release(t.Context()); !errors.Is(err, errDisk) || until(m) != time.Minute {
			t.Errorf("Release: %v, until %v", err, until(m))
		}
		if view, err := m.Look(t.Context()); !errors.Is(err, errDisk) || view.Holder.InstanceID != "" {
			t.Errorf("Look: %+v, %v", view, err)
		}
		time.Sleep(time.Minute)
		if acq, err := m.Acquire(t.Context(), claim(time.Minute)); !errors.Is(err, errDisk) || acq.Lease != nil || until(m) != 0 {
			t.Errorf("Acquire: %+v, %v", acq, err)
		}
		m.Heal(Acquire)
		if acq, err := m.Acquire(t.Context(), claim(time.Minute)); err != nil || acq.Lease == nil {
			t.Errorf("Acquire: %+v, %v", acq, err)
		}
		if _, err := m.Look(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("Look, which was not healed: %v", err)
		}
		m.Heal()
		if _, err := m.Look(t.Context()); err != nil {
			t.Errorf("Look: %v", err)
		}
	})
}

func TestHang(t *testing.T) {
	for name, end := range map[string]func(m *Memory){
		"healed":        func(m *Memory) { m.Heal() },
		"another fault": func(m *Memory) { m.Fail(errDisk) }, // for those that come after it
		"no time":       nil,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *Memory, l owner.Lease) {
				time.Sleep(time.Second)
				m.Hang()
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errDisk)
				defer cancel()
				if end == nil {
					if after, err := renewed(ctx, m, l); !errors.Is(err, errDisk) || after != time.Hour || until(m) != 0 {
						t.Errorf("%v after %v, until %v", err, after, until(m))
					}
					return
				}
				time.AfterFunc(10*time.Second, func() { end(m) })
				if after, err := renewed(ctx, m, l); err != nil || after != 10*time.Second || until(m) != 61*time.Second {
					t.Errorf("%v after %v, until %v", err, after, until(m))
				}
			})
		})
	}
}

func TestLate(t *testing.T) {
	bubble(t, func(t *testing.T, m *Memory, l owner.Lease) {
		time.Sleep(time.Second)
		m.Late(10*time.Second, nil, Renew)
		time.AfterFunc(1, func() {
			if got := until(m); got != 61*time.Second {
				t.Errorf("not applied at once: until %v", got)
			}
		})
		if after, err := renewed(t.Context(), m, l); err != nil || after != 10*time.Second {
			t.Errorf("%v after %v", err, after)
		}
		m.Late(0, errDisk, Renew)
		if after, err := renewed(t.Context(), m, l); !errors.Is(err, errDisk) || after != 0 || until(m) != 71*time.Second {
			t.Errorf("%v after %v, until %v", err, after, until(m))
		}
		m.TakeOver()
		m.Late(10*time.Second, nil, Renew)
		if _, err := renewed(t.Context(), m, l); !errors.Is(err, owner.ErrTakenOver) {
			t.Errorf("Renew, after a takeover: %v", err)
		}
	})
}

// An acquisition that was applied, and whose answer is an error, has not won, and blocks
// others until it expires.
func TestLateAcquisition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		m.Late(time.Second, errDisk, Acquire)
		if acq, err := m.Acquire(t.Context(), claim(time.Minute)); !errors.Is(err, errDisk) || acq.Lease != nil {
			t.Errorf("%+v, %v", acq, err)
		}
		if until(m) != time.Minute {
			t.Errorf("owned until %v", until(m))
		}
	})
}

func TestPeersHaveFaultsOfTheirOwn(t *testing.T) {
	bubble(t, func(t *testing.T, m *Memory, _ owner.Lease) {
		peer := m.Peer()
		m.Fail(errDisk)
		if view, err := peer.Look(t.Context()); err != nil || view.Free() {
			t.Errorf("the peer: %+v, %v", view, err)
		}
		m.Heal()
		peer.Fail(errDisk)
		if _, err := m.Look(t.Context()); err != nil {
			t.Error(err)
		}
		if peer.Now() != m.Now() {
			t.Error("two clocks")
		}
	})
}

// An owner whose lease is taken away knows it at once, by a hint, and why. Which instance
// may own next, and when, depends on the way.
func TestTakenAway(t *testing.T) {
	const ttl, margin = 12 * time.Second, 3 * time.Second
	for name, tc := range map[string]struct {
		take   func(m *Memory)
		reason error
		free   time.Duration // after it
	}{
		"TakeOver": {func(m *Memory) { m.TakeOver() }, owner.ErrTakenOver, ttl},
		"Revoke":   {(*Memory).Revoke, owner.ErrRevoked, ttl - time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMemory()
				o, err := owner.Join(t.Context(), owner.Config{Store: m, TTL: ttl})
				if err != nil {
					t.Fatal(err)
				}
				next, err := owner.Join(t.Context(), owner.Config{Store: m, TTL: ttl, Standby: true})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(ttl/3 + time.Second) // a second after a renewal
				at := time.Now()
				tc.take(m)
				<-o.Lost()
				if took := time.Since(at); took > 2*time.Millisecond || !errors.Is(o.LostErr(), tc.reason) {
					t.Errorf("lost after %v: %v", took, o.LostErr())
				}
				<-next.Elected()
				if took := time.Since(at); took.Round(10*time.Millisecond) != tc.free {
					t.Errorf("another owns after %v, want %v", took, tc.free)
				}
				if next.Epoch() <= o.Epoch() {
					t.Errorf("epoch %d after %d", next.Epoch(), o.Epoch())
				}
				_ = o.Release()
				_ = next.Release()
			})
		})
	}
}

// A revoked lease is free when its owner has released it.
func TestRevokedAndReleased(t *testing.T) {
	bubble(t, func(t *testing.T, m *Memory, l owner.Lease) {
		m.Revoke()
		if _, err := renewed(t.Context(), m, l); !errors.Is(err, owner.ErrRevoked) || until(m) != time.Minute {
			t.Errorf("%v, until %v", err, until(m))
		}
		if err := l.Release(t.Context()); err != nil || until(m) != 0 {
			t.Errorf("%v, until %v", err, until(m))
		}
		if _, err := renewed(t.Context(), m, l); !errors.Is(err, owner.ErrRevoked) {
			t.Error(err)
		}
		acq, err := m.Acquire(t.Context(), claim(time.Minute))
		if err != nil || acq.Lease == nil {
			t.Fatalf("%+v, %v", acq, err)
		}
		if _, err := renewed(t.Context(), m, acq.Lease); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}

// No instance owns: the other one does for a minute.
func TestTakeOverOfAFreeLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		rec := m.TakeOver()
		if view, err := m.Look(t.Context()); err != nil || view.Holder.InstanceID != rec.InstanceID || rec.Epoch != 1 || view.Until != time.Minute {
			t.Errorf("%+v, %v", view, err)
		}
	})
}
