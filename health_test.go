package owner

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sickly is a work that is healthy for a while, and then answers with an error.
func sickly(well time.Duration, err error) func(*Config) {
	start := time.Now()
	return func(c *Config) {
		c.HealthTimeout = 10 * time.Second
		c.Healthy = func(context.Context) error {
			if time.Since(start) <= well {
				return nil
			}
			return err
		}
	}
}

func TestHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		o := join(t, t.Context(), newFakeStore(), func(c *Config) {
			c.Healthy = func(context.Context) error { asked.Add(1); return nil }
		})
		time.Sleep(100*interval + time.Second)
		if !o.IsOwner() || asked.Load() != 101 {
			t.Errorf("asked %d times; %v", asked.Load(), o.Check())
		}
		must(t, o.Release())
		<-o.Done()
		time.Sleep(100 * interval)
		if n := asked.Load(); n != 101 {
			t.Errorf("asked %d times after the release", n-101)
		}
	})
}

func TestUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFakeStore(), &moves{}
		stuck := errors.New("the model does not answer")
		start := time.Now()
		o := join(t, t.Context(), s, sickly(10*interval, stuck), func(c *Config) { c.OnTransition = m.add })
		<-o.Lost()
		var lost *LostError
		if err := o.LostErr(); !errors.Is(err, ErrUnhealthy) || !errors.Is(err, stuck) || !errors.As(err, &lost) {
			t.Errorf("lost by %v", err)
		}
		if after := time.Since(start); after != 10*interval+10*time.Second {
			t.Errorf("lost after %v", after)
		}
		// The lease blocks a successor until it has expired, or the caller has stopped.
		synctest.Wait()
		if renewals, releases := s.counted(); renewals != 12 || releases != 0 {
			t.Errorf("%d renewals, %d releases", renewals, releases)
		}
		must(t, o.Release())
		synctest.Wait()
		if !s.free() {
			t.Error("the lease is not free")
		}
		<-o.Done()
		m.check(t)
	})
}

// A work that hangs is not healthy, however long Healthy takes, and whatever the store does.
func TestHealthyHangs(t *testing.T) {
	for _, renewing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore()
			start := time.Now()
			o := join(t, t.Context(), s, func(c *Config) {
				c.HealthTimeout = 6 * time.Second
				c.Healthy = func(ctx context.Context) error { <-ctx.Done(); return nil }
			})
			hook, answer := hang()
			if renewing {
				s.set(&s.onRenew, hook)
			}
			<-o.Lost()
			if after := time.Since(start); after != 6*time.Second || !errors.Is(o.LostErr(), ErrUnhealthy) || !errors.Is(o.LostErr(), errNoHealth) {
				t.Errorf("lost after %v by %v", after, o.LostErr())
			}
			time.Sleep(time.Until(start.Add(ttl)))
			answer()
			must(t, o.Release())
		})
	}
}

// A standby is asked when it owns, and HealthTimeout counts from then.
func TestHealthyOfAStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		first := join(t, t.Context(), s)
		start := time.Now()
		standby := join(t, t.Context(), s, sickly(0, errors.New("never")), func(c *Config) { c.Standby = true })
		time.Sleep(time.Hour)
		must(t, first.Release())
		<-standby.Lost()
		if after := time.Since(start); after < time.Hour+10*time.Second || after > time.Hour+11*time.Second {
			t.Errorf("lost after %v", after)
		}
		must(t, standby.Release())
	})
}

func TestHealthyConfig(t *testing.T) {
	healthy := func(context.Context) error { return nil }
	for name, cfg := range map[string]Config{
		"nothing to ask": {HealthTimeout: time.Second},
		"never asked":    {HealthTimeout: time.Second, RenewInterval: time.Second, Healthy: healthy},
		"negative":       {HealthTimeout: -1, Healthy: healthy},
	} {
		cfg.TTL, cfg.LeasePath = ttl, leasePath(t)
		if _, err := Join(t.Context(), cfg); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
