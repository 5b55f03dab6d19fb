package etcdstore

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
)

// An acquisition whose grants were slow counts from after them if its etcd leases were kept
// alive at the same time, and only then.
func TestSlowAcquisition(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	const ttl = 12 * time.Second
	for name, tc := range map[string]struct {
		disturb func(*line)
		counts  bool
	}{
		"kept":                      {func(*line) {}, true},
		"kept by a replaced leader": {func(l *line) { l.outdate(true) }, false},
		"not kept":                  {func(l *line) { l.hang(math.MaxInt) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, line := through(t, srv)
			s := New(c, "/"+uuid.NewString())
			look(t, s) // it is connected
			line.disturb(only("grant", func(ctx context.Context, _ string, apply func(context.Context) error) error {
				err := apply(ctx)
				sleep(ctx, ttl/8)
				return err
			}))
			tc.disturb(line)
			begun := s.Now()
			acq := acquire(t, s, ttl)
			if counts := acq.From-begun >= ttl/8; counts != tc.counts {
				t.Errorf("it counts from %v after its beginning", acq.From-begun)
			}
			line.hang(0)
			must(t, acq.Lease.Release(context.Background()))
		})
	}
}
