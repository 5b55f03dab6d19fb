package ownertest

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
)

var cases = []struct {
	name   string
	breaks func(s *broken)
	test   string // that has to notice it
	says   string // in its message
}{
	{"a clock that goes back", func(s *broken) {
		s.now = func() time.Duration { return s.Memory.Now() - rand.N(time.Microsecond) }
	}, "Clock", "gone back"},
	{"a clock that has stopped", func(s *broken) {
		s.now = func() time.Duration { return s.Memory.Now().Truncate(time.Minute) }
	}, "Clock", "has moved by 0s"},
	{"a clock that is too fast", func(s *broken) {
		s.now = func() time.Duration { return s.Memory.Now() * 11 / 10 }
	}, "Clock", "has moved by"},

	{"a record without its metadata", edited(func(_ *broken, acq *owner.Acquisition) { acq.Holder.Meta = nil }), "Acquire", "metadata"},
	{"a record without its host", edited(func(_ *broken, acq *owner.Acquisition) { acq.Holder.Host = "" }), "Acquire", "the owner's record"},
	{"a record without its times", edited(func(_ *broken, acq *owner.Acquisition) { acq.Holder.RenewedAt = time.Time{} }), "Acquire", "RenewedAt"},
	{"an epoch of zero", edited(func(_ *broken, acq *owner.Acquisition) { acq.Holder.Epoch = 0 }), "Acquire", "the epoch is 0"},
	{"validity from the future", edited(func(_ *broken, acq *owner.Acquisition) { acq.From += time.Second }), "Acquire", "later than the clock"},
	{"validity from after the write", func(s *broken) {
		var slow sync.Once // the next one is not: two such can seem right
		edited(func(s *broken, acq *owner.Acquisition) {
			slow.Do(func() { time.Sleep(100 * time.Millisecond) })
			acq.From = s.Now()
		})(s)
	}, "TTLOfTheHolder", "before the other's lease had expired"},
	{"validity from after the write, always", edited(func(s *broken, acq *owner.Acquisition) {
		time.Sleep(100 * time.Millisecond)
		acq.From = s.Now()
	}), "Look", "Look: the lease"},

	{"two winners, always", func(s *broken) {
		s.acquire = func(_ context.Context, claim owner.Record) (owner.Acquisition, error) { return s.force(claim), nil }
	}, "Held", "has won a lease that another owns"},
	{"two winners, of an expired lease", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			view, err := s.Memory.Look(ctx)
			if err != nil || !view.Free() {
				return owner.Acquisition{Holder: view.Holder}, err
			}
			time.Sleep(20 * time.Millisecond)
			return s.force(claim), nil
		}
	}, "RaceForAnExpired", "have won"},
	{"two winners, at once", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			if view := s.Memory.look(); !view.Free() {
				return owner.Acquisition{Holder: view.Holder}, nil
			}
			time.Sleep(time.Millisecond)
			return s.force(claim), nil
		}
	}, "Race", "have won"},
	{"two winners, at times", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			if rand.IntN(20) == 0 {
				return s.force(claim), nil
			}
			return s.Memory.Acquire(ctx, claim)
		}
	}, "History", "two valid owners at once"},
	{"two winners that run", func(s *broken) {
		s.acquire = func(_ context.Context, claim owner.Record) (owner.Acquisition, error) { return s.force(claim), nil }
	}, "Run", "two work at once"},
	{"two winners that join", func(s *broken) {
		s.renew = func(context.Context, *memoryLease, time.Duration) error { return nil }
		s.acquire = func(_ context.Context, claim owner.Record) (owner.Acquisition, error) { return s.force(claim), nil }
	}, "OneOwner", "two own"},
	{"a holder that is not named", edited(func(_ *broken, acq *owner.Acquisition) {
		if acq.Lease == nil {
			acq.Holder = owner.Record{}
		}
	}), "Held", "names no other holder"},
	{"a holder that is named wrongly", edited(func(_ *broken, acq *owner.Acquisition) {
		if acq.Lease == nil {
			acq.Holder.Meta = map[string]string{owner.EndpointMetaKey: "unix:/run/of another"}
		}
	}), "OneOwner", "a follower knows"},
	{"a refusal that is an error", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			acq, err := s.Memory.Acquire(ctx, claim)
			if err == nil && acq.Lease == nil {
				err = errors.New("another has it")
			}
			return acq, err
		}
	}, "Race", "another has it"},

	{"an epoch that repeats", edited(func(_ *broken, acq *owner.Acquisition) { acq.Holder.Epoch = 7 }), "Epochs", "the epoch is 7, and was 7"},
	{"an epoch that repeats after a release", func(s *broken) {
		s.release = func(ctx context.Context, m *memoryLease) error {
			err := m.Release(ctx)
			s.change(func(l *lease) { l.epoch = 0 })
			return err
		}
	}, "Epochs", "the epoch is 1, and was 1"},
	{"an epoch that repeats after an expiry", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			s.change(func(l *lease) {
				if l.holder != nil && s.Memory.Now() >= l.until {
					l.epoch--
				}
			})
			return s.Memory.Acquire(ctx, claim)
		}
	}, "Epochs", "and was"},
	{"an epoch that falls", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			s.change(func(l *lease) {
				if l.holder == nil && l.epoch%5 == 4 {
					l.epoch -= 2
				}
			})
			return s.Memory.Acquire(ctx, claim)
		}
	}, "History", "an epoch that does not grow"},

	{"a lease for the challenger's TTL", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			s.change(func(l *lease) {
				if l.holder != nil && s.Memory.Now() >= l.until-l.holder.TTL+claim.TTL {
					l.holder = nil
				}
			})
			return s.Memory.Acquire(ctx, claim)
		}
	}, "TTLOfTheHolder", "before the other's lease had expired"},
	{"a lease for the challenger's longer TTL", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			s.change(func(l *lease) {
				if l.holder != nil && l.holder.TTL < claim.TTL {
					l.until += claim.TTL - l.holder.TTL
				}
			})
			return s.Memory.Acquire(ctx, claim)
		}
	}, "TTLOfTheHolder", "still owned"},
	{"a lease that never expires", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			s.change(func(l *lease) { l.until = 1 << 60 })
			return s.Memory.Acquire(ctx, claim)
		}
	}, "TTLOfTheHolder", "still owned"},
	{"a lease that lasts too shortly", lasting(0.5), "RaceForAnExpired", "before the other's lease had expired"},
	{"a lease that ends within the margin", lasting(0.76), "HungOwner", "less than the safety margin"},
	{"a lease that ends before its owner stops", lasting(0.5), "HungOwner", "less than the safety margin"},
	{"a lease that lasts too shortly, in a history", lasting(0.6), "History", "the lease: "},

	{"a renewal that does nothing", func(s *broken) {
		s.renew = func(context.Context, *memoryLease, time.Duration) error { return nil }
	}, "Renew", "and its owner counts on"},
	{"a renewal that gives too little", func(s *broken) {
		s.renew = func(ctx context.Context, m *memoryLease, at time.Duration) error {
			return m.Renew(ctx, at-m.rec.TTL/2)
		}
	}, "Renew", "and its owner counts on"},
	{"a renewal that gives too little, unseen", func(s *broken) {
		s.renew = func(ctx context.Context, m *memoryLease, at time.Duration) error {
			return m.Renew(ctx, at-m.rec.TTL/2)
		}
		seen(func(_ *broken, view *owner.View) { view.Until = 0 })(s)
	}, "Renew", "before the other's lease had expired"},
	{"a renewal of what is another's", func(s *broken) {
		s.renew = func(ctx context.Context, m *memoryLease, at time.Duration) error {
			_ = m.Renew(ctx, at)
			return nil
		}
	}, "RenewAfterTakeover", "want ErrTakenOver"},
	{"a renewal that takes the lease back", func(s *broken) {
		s.renew = func(ctx context.Context, m *memoryLease, at time.Duration) error {
			err := m.Renew(ctx, at)
			s.change(func(l *lease) { l.holder, l.until = &m.rec, at+m.rec.TTL })
			return err
		}
	}, "RenewAfterTakeover", "the holder that Look names"},

	{"a release of what is another's", func(s *broken) {
		s.release = func(context.Context, *memoryLease) error {
			s.change(func(l *lease) { l.free() })
			return nil
		}
	}, "ReleaseAfterLoss", "the lease is free, and epoch"},
	{"a release that does nothing", func(s *broken) {
		s.release = func(context.Context, *memoryLease) error { return nil }
	}, "Release", "owns a lease that was released"},
	{"a release that takes its time to be seen", func(s *broken) {
		s.release = func(ctx context.Context, m *memoryLease) error {
			time.AfterFunc(100*time.Millisecond, func() { _ = m.Release(ctx) })
			return nil
		}
	}, "Release", "owns a lease that was released"},
	{"a release that does not hand over", func(s *broken) {
		s.release = func(context.Context, *memoryLease) error { return nil }
	}, "Handover", "an election"},
	{"a release that brings an expired lease back", func(s *broken) {
		s.release = func(ctx context.Context, m *memoryLease) error {
			if s.Memory.look().Free() {
				s.change(func(l *lease) { l.holder, l.until = &m.rec, 1<<60 })
				return errors.New("it was too late")
			}
			return m.Release(ctx)
		}
	}, "ReleaseAfterExpiry", "still owned"},

	{"a read that sees nothing", seen(func(_ *broken, view *owner.View) { *view = owner.View{} }), "Look", "the lease is free"},
	{"a read that sees the expiry too early", seen(func(_ *broken, view *owner.View) { view.Until -= 10 * time.Millisecond }), "Look", "counts on"},
	{"a read that finds it free too early", seen(func(s *broken, view *owner.View) {
		if view.Until-s.Now() < 100*time.Millisecond {
			*view = owner.View{}
		}
	}), "Look", "before it expires"},
	{"a read that sees no expiry", func(s *broken) {
		s.look = func(context.Context) (view owner.View, err error) {
			s.change(func(l *lease) {
				if l.holder != nil {
					view = owner.View{Holder: *l.holder, Until: l.until}
				}
			})
			return view, nil
		}
	}, "Look", "after it has expired"},
	{"a read that acquires the lease", func(s *broken) {
		s.look = func(ctx context.Context) (owner.View, error) {
			if s.Memory.look().Free() {
				s.force(claim(long))
			}
			return s.Memory.Look(ctx)
		}
	}, "Look", "that was never owned"},
	{"a read that sees an old state", func(s *broken) {
		var last atomic.Pointer[owner.View]
		last.Store(&owner.View{})
		s.look = func(ctx context.Context) (owner.View, error) {
			view := s.Memory.look()
			return *last.Swap(&view), nil
		}
	}, "Held", "the lease is free, and epoch"},
	{"a read that sees no release", func(s *broken) {
		var last atomic.Pointer[owner.View]
		s.look = func(ctx context.Context) (owner.View, error) {
			view := s.Memory.look()
			if was := last.Load(); was != nil && view.Free() {
				return *was, nil
			}
			last.Store(&view)
			return view, nil
		}
	}, "WatchStore", "to report no owner"},

	{"an advertisement that does nothing", func(s *broken) {
		s.tell = func(context.Context, *memoryLease, map[string]string) error { return nil }
	}, "Advertise", "metadata"},
	{"an advertisement that adds", func(s *broken) {
		s.tell = func(ctx context.Context, l *memoryLease, meta map[string]string) error {
			all := maps.Clone(s.Memory.look().Holder.Meta)
			if all == nil {
				all = map[string]string{}
			}
			maps.Copy(all, meta)
			return l.Advertise(ctx, all)
		}
	}, "Advertise", "metadata"},
	{"an advertisement that the next renewal undoes", func(s *broken) {
		s.renew = func(ctx context.Context, l *memoryLease, at time.Duration) error {
			err := l.Renew(ctx, at)
			if err == nil {
				s.change(func(shared *lease) {
					renewed := *shared.holder
					renewed.Meta = l.rec.Meta
					shared.holder = &renewed
				})
			}
			return err
		}
	}, "Advertise", "metadata"},
	{"an advertisement that renews", func(s *broken) {
		s.tell = func(ctx context.Context, l *memoryLease, meta map[string]string) error {
			_ = l.Renew(ctx, s.Now())
			return l.Advertise(ctx, meta)
		}
	}, "AdvertiseNoRenewal", "still owned"},
	{"an advertisement in what is another's", func(s *broken) {
		s.tell = func(_ context.Context, _ *memoryLease, meta map[string]string) error {
			s.change(func(l *lease) {
				if l.holder != nil {
					told := *l.holder
					told.Meta = meta
					l.holder = &told
				}
			})
			return nil
		}
	}, "AdvertiseAfterLoss", "metadata"},
	{"a request that does nothing", func(s *broken) {
		s.ask = func(context.Context, string, string) error { return nil }
	}, "HandoverRequest", "a handover is requested: false"},
	{"a request that is kept for the next owner", func(s *broken) {
		var asked sync.Once
		on := false
		s.ask = func(ctx context.Context, holder, successor string) error {
			asked.Do(func() { on = true })
			return s.Memory.RequestHandover(ctx, holder, successor)
		}
		s.look = func(ctx context.Context) (owner.View, error) {
			view, err := s.Memory.Look(ctx)
			view.HandoverRequested = on && !view.Free()
			return view, err
		}
	}, "HandoverRequest", "and was not"},
	{"a later request that counts", func(s *broken) {
		s.ask = func(ctx context.Context, holder, successor string) error {
			s.change(func(l *lease) {
				if l.holder != nil && l.holder.InstanceID == holder {
					l.asked = &request{successor}
					l.hint()
				}
			})
			return nil
		}
	}, "HandoverRequest", "for another successor than before"},
	{"a request that takes the lease away", func(s *broken) {
		s.ask = func(ctx context.Context, holder, successor string) error {
			err := s.Memory.RequestHandover(ctx, holder, successor)
			s.Revoke()
			return err
		}
	}, "HandoverRequest", "Renew, after RequestHandover"},
	{"a request to any owner", func(s *broken) {
		s.ask = func(ctx context.Context, _, successor string) error {
			return s.Memory.RequestHandover(ctx, s.Memory.look().Holder.InstanceID, successor)
		}
	}, "HandoverOfAnother", "want ErrNoHolder"},
	{"a request that renews", func(s *broken) {
		s.ask = func(ctx context.Context, holder, successor string) error {
			s.change(func(l *lease) {
				if l.holder != nil && l.holder.InstanceID == holder {
					l.until = s.Memory.Now() + l.holder.TTL
				}
			})
			return s.Memory.RequestHandover(ctx, holder, successor)
		}
	}, "HandoverNoRenewal", "still owned"},
	{"two requests that count", func(s *broken) {
		s.ask = func(ctx context.Context, holder, successor string) error {
			if err := s.Memory.RequestHandover(ctx, holder, successor); !errors.Is(err, owner.ErrHandover) {
				return err
			}
			return nil
		}
	}, "HandoverRace", "want an ErrHandover that names"},
	{"a request that loses the lease by its context's end", func(s *broken) {
		s.ask = func(ctx context.Context, holder, successor string) error {
			if ctx.Err() != nil {
				s.Revoke()
				return context.Cause(ctx)
			}
			return s.Memory.RequestHandover(ctx, holder, successor)
		}
	}, "HandoverContext", "Renew: "},
	{"no hint of a request", func(s *broken) {
		s.ask = func(_ context.Context, holder, successor string) error {
			s.change(func(l *lease) {
				if l.holder != nil && l.holder.InstanceID == holder {
					l.asked = &request{successor}
				}
			})
			return nil
		}
	}, "HandoverHints", "a hint of a request"},
	{"a request that takes the lease from the work", func(s *broken) {
		s.ask = func(ctx context.Context, holder, successor string) error {
			err := s.Memory.RequestHandover(ctx, holder, successor)
			s.change(func(l *lease) { l.free() })
			return err
		}
	}, "RunStepsDown", "before the work has ended"},
	{"no hint of an advertisement", func(s *broken) {
		s.tell = func(_ context.Context, l *memoryLease, meta map[string]string) error {
			s.change(func(shared *lease) {
				told := *shared.holder
				told.Meta = meta
				shared.holder = &told
			})
			return nil
		}
	}, "AdvertiseHints", "a hint of an advertisement"},
	{"no hints", func(s *broken) {
		s.watch = func(owner.Record, func()) (func(), error) { return func() {}, nil }
	}, "Hints", "a hint of an acquisition"},
	{"no hint of a release", func(s *broken) {
		s.watch = func(_ owner.Record, hint func()) (func(), error) {
			return s.Memory.Watch(owner.Record{}, func() {
				if s.lease.holder != nil {
					hint()
				}
			})
		}
	}, "SharedHints", "a hint of a release"},
	{"hints for the last watcher only", func(s *broken) {
		var last atomic.Pointer[func()]
		s.watch = func(_ owner.Record, hint func()) (func(), error) {
			last.Store(&hint)
			return s.Memory.Watch(owner.Record{}, func() { (*last.Load())() })
		}
	}, "SharedHints", "a hint of a release"},
	{"hints that end for all", func(s *broken) {
		s.watch = func(holder owner.Record, hint func()) (func(), error) {
			_, err := s.Memory.Watch(holder, hint)
			return func() { s.change(func(l *lease) { clear(l.hints) }) }, err
		}
	}, "SharedHints", "a hint of a release"},
	{"a hint that comes late", func(s *broken) {
		s.watch = func(holder owner.Record, hint func()) (func(), error) {
			return s.Memory.Watch(holder, func() { time.AfterFunc(time.Millisecond, hint) })
		}
	}, "NoHintAfterStop", "after stop had returned"},
	{"hints that do not end", func(s *broken) {
		s.watch = func(holder owner.Record, hint func()) (func(), error) {
			_, err := s.Memory.Watch(holder, hint)
			return func() {}, err
		}
	}, "NoHintAfterStop", "after stop had returned"},
	{"a stop that hangs", func(s *broken) {
		s.watch = func(owner.Record, func()) (func(), error) { return func() { select {} }, nil }
	}, "WatchLeavesNothing", "stop: not within"},
	{"a watch that hangs", func(s *broken) {
		s.watch = func(owner.Record, func()) (func(), error) { select {} }
	}, "WatchLeavesNothing", "Watch: not within"},
	{"a watch that leaves a goroutine behind", func(s *broken) {
		s.watch = func(holder owner.Record, hint func()) (func(), error) {
			go func() { select {} }()
			return s.Memory.Watch(holder, hint)
		}
	}, "WatchLeavesNothing", "goroutines behind"},

	{"hints that stay inside of the process", func(s *broken) {
		// Those of the other one's changes are missing.
		s.deaf = true
	}, "Peers", "a hint of an advertisement by another process"},
	{"no hints, nor anything else that another process sees", func(s *broken) {
		s.silent, s.apart = true, true
	}, "Peers", "the lease is free, and epoch"},
	{"no hints, and a lease that ends before its owner stops", func(s *broken) {
		s.silent = true
		lasting(0.5)(s)
	}, "HungOwner", "less than the safety margin"},
	{"an acquisition whose answer is lost, and that is kept", func(*broken) {}, "LostAnswer", "is not given back"},

	{"an acquisition that hangs after its context's end", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			if ctx.Err() != nil {
				select {}
			}
			return s.Memory.Acquire(ctx, claim)
		}
	}, "EndedContexts", "Acquire, with a context that has ended"},
	{"an acquisition that leaves a record for ever", func(s *broken) {
		s.acquire = func(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
			if ctx.Err() != nil {
				claim.TTL = time.Hour
				s.force(claim)
				return owner.Acquisition{}, context.Cause(ctx)
			}
			return s.Memory.Acquire(ctx, claim)
		}
	}, "CancelledAcquire", "still keeps others out"},
	{"a renewal that takes its context's end for a loss", func(s *broken) {
		s.renew = func(ctx context.Context, m *memoryLease, at time.Duration) error {
			if ctx.Err() != nil {
				return owner.ErrRevoked
			}
			return m.Renew(ctx, at)
		}
	}, "EndedContexts", "Renew, with a context that has ended"},
	{"a renewal that loses the lease by its context's end", func(s *broken) {
		s.renew = func(ctx context.Context, m *memoryLease, at time.Duration) error {
			if ctx.Err() != nil {
				_ = m.Release(ctx)
				return context.Cause(ctx)
			}
			return m.Renew(ctx, at)
		}
	}, "EndedContexts", "Renew, after one whose context had ended"},
	{"a release that keeps the lease after its context's end", func(s *broken) {
		s.release = func(ctx context.Context, m *memoryLease) error {
			if ctx.Err() != nil {
				return nil
			}
			return m.Release(ctx)
		}
	}, "EndedContexts", "the lease is free, but"},
}

const brokenEnv = "OWNERTEST_BROKEN"
