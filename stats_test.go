package owner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := join(t, t.Context(), s)
		if o.Stats() != (Stats{}) {
			t.Errorf("at first: %+v", o.Stats())
		}
		took := time.Second
		s.set(&s.onRenew, func(context.Context) error { time.Sleep(took); took = 2 * time.Second; return nil })
		time.Sleep(2*interval + 2*time.Second)
		synctest.Wait()
		want := Stats{Renewals: 2, RenewTime: 3 * time.Second, LongestRenewal: 2 * time.Second, LeastSlack: fence - interval - 2*time.Second}
		if got := o.Stats(); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		s.set(&s.onRenew, func(context.Context) error { return errors.New("no space left on device") })
		time.Sleep(interval)
		synctest.Wait()
		if got := o.Stats(); got.Renewals != 2 || got.RenewErrors == 0 {
			t.Errorf("after errors: %+v", got)
		}
		<-o.Lost()
		last := o.Stats()
		must(t, o.Release())
		if o.Stats() != last {
			t.Errorf("after the loss: %+v, then %+v", last, o.Stats())
		}
	})
}

// Owners that renew at about the same time do so at the same time: never later than
// RenewInterval, and not much sooner.
func TestRenewTogether(t *testing.T) {
	for _, interval := range []time.Duration{time.Millisecond, 10 * time.Second, 7*time.Second + 13} {
		times := map[time.Duration]int{}
		for n := range 10_000 {
			c := core{timing: timing{interval: interval}, issued: interval * time.Duration(n-5000) / 10_000}
			at := c.renewAt()
			if late := at - c.issued - interval; late > 0 || late <= -interval/32 {
				t.Fatalf("a renewal after %v of %v", at-c.issued, interval)
			}
			times[at]++
		}
		if len(times) > 34 {
			t.Errorf("10,000 owners renew %d times in %v", len(times), interval)
		}
	}
}
