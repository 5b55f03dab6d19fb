package owner

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What hints do, and what their absence does, on simulated time.

// Each hint is checked: a needless one changes nothing, and a storm of them costs no more
// than a read per millisecond.
func TestStandbyHintStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first, second := standing(t, s)
		looks := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.looks
		}
		time.Sleep(time.Minute)
		before := looks()
		const storm = time.Second
		for start := time.Now(); time.Since(start) < storm; time.Sleep(10 * time.Microsecond) {
			s.mu.Lock()
			s.hint()
			s.mu.Unlock()
		}
		synctest.Wait()
		if n := looks() - before; n > int(storm/minPollGap)+1 || n < int(storm/minPollGap)/2 {
			t.Errorf("%d reads in a storm of %v", n, storm)
		}
		renewals, _ := s.counted()
		if renewals > int(storm/minPollGap)+20 {
			t.Errorf("%d renewals in a storm of %v", renewals, storm)
		}
		if !first.IsOwner() || second.IsOwner() || closed(second.Elected()) {
			t.Error("a hint has changed something")
		}
		time.Sleep(time.Minute)
		before = looks()
		time.Sleep(time.Hour)
		if n := looks() - before; n > int(time.Hour/poll)+1 {
			t.Errorf("%d reads in an hour in which nothing happened", n)
		}
		if after, _ := s.counted(); after-renewals > int(2*time.Hour/interval) {
			t.Errorf("%d renewals after the storm", after-renewals)
		}
		must(t, second.Release(), first.Release())
	})
}

// A hint source that fails is no error, and is reported once.
func TestHintsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.watchErr = errors.New("too many open files")
		var b strings.Builder
		first, second := standing(t, s, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&b, nil)) })
		time.Sleep(time.Minute)
		must(t, first.Release())
		start := time.Now()
		<-second.Elected()
		if d := time.Since(start); d > poll {
			t.Errorf("took %v", d)
		}
		must(t, second.Release())
		<-second.Done()
		if n := strings.Count(b.String(), "too many open files"); n != 1 {
			t.Errorf("reported %d times:\n%s", n, b.String())
		}
	})
}

// An owner checks its record when a hint comes.
func TestOwnerHeedsHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		time.Sleep(interval / 2)
		start := time.Now()
		renewals := 0
		s.set(&s.onRenew, func(context.Context) error {
			if renewals++; renewals == 1 {
				s.mu.Lock()
				s.hint() // something happens while the first one is under way
				s.mu.Unlock()
				return nil
			}
			return ErrRevoked
		})
		s.mu.Lock()
		s.hint()
		s.mu.Unlock()
		<-o.Lost()
		if d := time.Since(start); d > 2*minPollGap || renewals != 2 || !errors.Is(o.LostErr(), ErrRevoked) {
			t.Errorf("noticed after %v and %d renewals: %v", d, renewals, o.LostErr())
		}
		time.Sleep(ttl)
	})
}

// What happens between a read and the beginning of the hints is found by another read.
func TestStandbyLooksOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		d := &diesWhenWatched{fakeStore: s}
		second := join(t, t.Context(), d, standby)
		time.Sleep(time.Minute)
		s.mu.Lock()
		clear(s.watchers) // no hint comes from now on
		s.holder.InstanceID, d.dies = "another", "another"
		s.mu.Unlock()
		<-second.Elected()
		if took := s.Now() - d.at; took != 0 {
			t.Errorf("elected %v after the death", took)
		}
		must(t, second.Release(), first.Release())
	})
}

// diesWhenWatched loses an owner just before the end of the owner is listened for its end.
type diesWhenWatched struct {
	*fakeStore
	dies string
	at   time.Duration
}

func (s *diesWhenWatched) Watch(holder Record, hint func()) (func(), error) {
	if holder.InstanceID == s.dies {
		s.at = s.Now()
		s.die(false)
	}
	return s.fakeStore.Watch(holder, hint)
}

// Hints that begin while their Owner ends, end with it.
func TestHintsEndWhileTheyBegin(t *testing.T) {
	s := newFakeStore()
	h := hints{given: make(chan struct{}, 1)}
	h.store = endsWhenWatched{s, h.end}
	h.resubscribe(&Record{InstanceID: "another"})
	if n := s.watched(); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

type endsWhenWatched struct {
	*fakeStore
	end func()
}

func (s endsWhenWatched) Watch(holder Record, hint func()) (func(), error) {
	s.end()
	return s.fakeStore.Watch(holder, hint)
}

// A store may return no more than an error.
func TestStandbyWithoutAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		second := join(t, t.Context(), unwatchable{s}, standby)
		time.Sleep(time.Minute)
		must(t, first.Release())
		<-second.Elected()
		must(t, second.Release())
		if n := s.looks; n > 75 {
			t.Errorf("%d reads in a minute", n)
		}
	})
}

type unwatchable struct{ *fakeStore }

// Where an owner's record is missing, its process is watched all the same.
func TestHintsOutliveTheRecord(t *testing.T) {
	s := newFakeStore()
	h := hints{store: s, given: make(chan struct{}, 1)}
	defer h.end()
	h.resubscribe(&Record{InstanceID: "a", PID: 123})
	for _, r := range []Record{{InstanceID: "a", PID: 123}, {InstanceID: "a"}, {}} {
		if h.resubscribe(&r) {
			t.Errorf("subscribed anew for %+v", r)
		}
	}
	if !h.resubscribe(&Record{InstanceID: "a", PID: 124}) || !h.resubscribe(&Record{InstanceID: "b"}) || s.watched() != 1 {
		t.Error("not subscribed to another")
	}
}
