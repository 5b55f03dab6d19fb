package owner

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func advertisedIn(r Record) string { return r.Meta[EndpointMetaKey] }

func TestAdvertise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		follower := join(t, t.Context(), s, func(c *Config) { c.Standby = true })
		defer follower.Release()
		must(t, o.Advertise(t.Context(), "unix:/run/y.sock", map[string]string{"version": "2"}))
		if o.Endpoint() != "unix:/run/y.sock" || o.Holder().Meta["version"] != "2" {
			t.Errorf("the owner has %v", o.Holder().Meta)
		}
		synctest.Wait()
		time.Sleep(time.Millisecond) // the least between two reads
		synctest.Wait()
		if follower.Endpoint() != "unix:/run/y.sock" {
			t.Errorf("the standby has %v", follower.Holder().Meta)
		}
		time.Sleep(10 * interval)
		must(t, o.Advertise(t.Context(), "", nil))
		if o.Endpoint() != "" || len(s.holder.Meta) != 0 || !o.IsOwner() {
			t.Errorf("the record has %v", s.holder.Meta)
		}
		must(t, o.Release())
	})
}

func TestAdvertiseRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		advertise := func(o *Owner) error { return o.Advertise(t.Context(), "unix:/run/y.sock", nil) }
		for name, err := range map[string]error{
			"too large": o.Advertise(t.Context(), "", map[string]string{"k": strings.Repeat("x", maxMeta)}),
			"no text":   o.Advertise(t.Context(), "\xff", nil),
			"two":       o.Advertise(t.Context(), "a", map[string]string{EndpointMetaKey: "b"}),
		} {
			if !errors.Is(err, ErrInvalidConfig) {
				t.Errorf("%s: %v", name, err)
			}
		}
		plain := join(t, t.Context(), s)
		standby := join(t, t.Context(), s, func(c *Config) { c.Standby = true })
		for name, follower := range map[string]*Owner{"plain": plain, "standby": standby} {
			if err := advertise(follower); !errors.Is(err, ErrNotOwner) {
				t.Errorf("a %s follower: %v", name, err)
			}
		}
		must(t, standby.Release(), o.Release())
		if err := advertise(o); !errors.Is(err, ErrReleased) {
			t.Errorf("after the release: %v", err)
		}

		s.set(&s.onRenew, func(context.Context) error { return ErrRevoked })
		lost := join(t, t.Context(), s)
		<-lost.Lost()
		if err := advertise(lost); !errors.Is(err, ErrRevoked) {
			t.Errorf("after the loss: %v", err)
		}
		must(t, lost.Release())
		synctest.Wait() // until the lease is free

		ctx, cancel := context.WithCancelCause(t.Context())
		ended := join(t, ctx, s)
		gone := errors.New("gone")
		cancel(gone)
		synctest.Wait()
		if err := advertise(ended); !errors.Is(err, gone) || !ended.IsOwner() {
			t.Errorf("after the end of the context: %v", err)
		}
		must(t, ended.Release())
	})
}

// An advertisement that fails costs nothing; the record is checked at once.
func TestAdvertiseFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		full := errors.New("no space left on device")
		s.set(&s.onAdvertise, func(context.Context) error { return full })
		if err := o.Advertise(t.Context(), "unix:/run/y.sock", nil); !errors.Is(err, full) {
			t.Error(err)
		}
		time.Sleep(2 * minPollGap)
		synctest.Wait()
		if renewals, _ := s.counted(); renewals != 1 || o.Endpoint() != "unix:/run/x.sock" || !o.IsOwner() {
			t.Errorf("%d renewals, %s", renewals, o.Endpoint())
		}
		must(t, o.Release())
	})
}

// One that is not answered does not keep the renewals behind it waiting for long.
func TestAdvertiseUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		s.set(&s.onAdvertise, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
		start := time.Now()
		if err := o.Advertise(t.Context(), "unix:/run/y.sock", nil); err == nil || time.Since(start) > ttl/4 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		gaveUp := errors.New("gave up")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, gaveUp)
		defer cancel()
		if err := o.Advertise(ctx, "unix:/run/y.sock", nil); !errors.Is(err, gaveUp) {
			t.Error(err)
		}
		time.Sleep(10 * ttl)
		if !o.IsOwner() {
			t.Error(o.Check())
		}
		must(t, o.Release())
	})
}

// A disk that hangs in an advertisement costs the ownership as it does in a renewal, in time;
// and the caller hears of it.
func TestAdvertiseHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		hook, answer := hang()
		s.set(&s.onAdvertise, hook)
		start := time.Now()
		outcome := make(chan error, 1)
		go func() { outcome <- o.Advertise(context.Background(), "unix:/run/y.sock", nil) }()
		<-o.Lost()
		if time.Since(start) != fence {
			t.Errorf("lost after %v", time.Since(start))
		}
		answer()
		<-outcome
		if advertisedIn(o.Holder()) != "unix:/run/x.sock" {
			t.Error("it counts after the loss")
		}
		must(t, o.Release())
	})
}

// A renewal that is under way counts all the same, and a release answers who advertises.
func TestAdvertiseBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		hook, answer := hang()
		s.set(&s.onRenew, hook)
		time.Sleep(interval)
		synctest.Wait() // renewing
		outcome := make(chan error, 2)
		go func() { outcome <- o.Advertise(context.Background(), "unix:/run/y.sock", nil) }()
		synctest.Wait()
		s.set(&s.onRenew, nil)
		answer()
		must(t, <-outcome)
		synctest.Wait()
		if want := s.start.Add(interval + fence); time.Until(want) != time.Duration(o.a.snap.Load().fence)-s.Now() {
			t.Error("the renewal has not counted")
		}

		hook, answer = hang()
		s.set(&s.onAdvertise, hook)
		go func() { outcome <- o.Advertise(context.Background(), "unix:/run/z.sock", nil) }()
		synctest.Wait()
		released := make(chan error, 1)
		go func() { released <- o.Release() }()
		synctest.Wait()
		answer()
		must(t, <-released, <-outcome)
		if advertisedIn(o.Holder()) != "unix:/run/z.sock" {
			t.Error("the owner does not know what its record had at the release")
		}
	})
}

func TestHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		standby := join(t, t.Context(), s, func(c *Config) { c.Standby, c.Endpoint = true, "unix:/run/b.sock" })
		var seen []string
		all := make(chan struct{})
		go func() {
			defer close(all)
			for r := range standby.Holders(context.Background()) {
				seen = append(seen, advertisedIn(r))
				clear(r.Meta) // it is the caller's
			}
		}()
		wait := func() { time.Sleep(time.Second); synctest.Wait() }
		wait()
		must(t, first.Advertise(t.Context(), "unix:/run/a.sock", nil))
		wait()
		must(t, first.Advertise(t.Context(), "unix:/run/a.sock", nil)) // nothing new
		wait()
		must(t, first.Release())
		<-standby.Elected()
		wait()
		must(t, standby.Advertise(t.Context(), "unix:/run/b2.sock", nil))
		wait()
		must(t, standby.Release())
		<-all
		if got := strings.Join(seen, " "); got != "unix:/run/x.sock unix:/run/a.sock  unix:/run/b.sock unix:/run/b2.sock " &&
			got != "unix:/run/x.sock unix:/run/a.sock unix:/run/b.sock unix:/run/b2.sock " {
			t.Errorf("%q", got)
		}
	})
}

// What ends ends the iteration: the caller's context or loop, and the instance.
func TestHoldersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		for range o.Holders(t.Context()) {
			break
		}
		plain := join(t, t.Context(), s)
		n := 0
		for r := range plain.Holders(context.Background()) {
			n++
			if advertisedIn(r) != "unix:/run/x.sock" {
				t.Error(r)
			}
		}
		if n != 1 {
			t.Errorf("a plain follower has yielded %d", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range o.Holders(ctx) {
			cancel()
		}
		ctx, cancel = context.WithCancel(t.Context())
		standby := join(t, ctx, s, func(c *Config) { c.Standby = true })
		for range standby.Holders(context.Background()) {
			cancel() // of Join
		}
		must(t, o.Release())
		// An owner whose context has ended owns until its deadline.
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		owner := join(t, ctx, s)
		start := time.Now()
		for range owner.Holders(context.Background()) {
			cancel()
		}
		if time.Since(start) != fence {
			t.Errorf("ended after %v", time.Since(start))
		}
	})
}
