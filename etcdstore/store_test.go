package etcdstore

import (
	"context"
	"flag"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if key := os.Getenv("ETCDSTORE_OWN"); key != "" {
		ownUntilKilled(key)
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // they wait, more than they compute
	goleak.VerifyTestMain(m)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// claim is what an Owner would come with.
func claim(ttl time.Duration) owner.Record {
	return owner.Record{InstanceID: uuid.NewString(), PID: 42, Host: "here", TTL: ttl,
		Meta: map[string]string{owner.EndpointMetaKey: "tcp:here:1"}}
}

func acquire(tb testing.TB, s owner.Store, ttl time.Duration) owner.Acquisition {
	tb.Helper()
	acq, err := s.Acquire(tb.Context(), claim(ttl))
	must(tb, err)
	if acq.Lease == nil {
		tb.Fatalf("held by %+v", acq.Holder)
	}
	return acq
}

func look(tb testing.TB, s owner.Store) owner.View {
	tb.Helper()
	view, err := s.Look(tb.Context())
	must(tb, err)
	return view
}

// keys returns how many keys of a lease there are.
func keys(tb testing.TB, c *clientv3.Client, key string) int64 {
	tb.Helper()
	resp, err := c.Get(tb.Context(), key, clientv3.WithRange(key+aliveSuffix+"\x00"), clientv3.WithCountOnly())
	must(tb, err)
	return resp.Count
}

func leases(tb testing.TB, c *clientv3.Client) int {
	tb.Helper()
	resp, err := c.Leases(tb.Context())
	must(tb, err)
	return len(resp.Leases)
}

func TestLeaseOfOne(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	s := New(c, "/k")
	if v := look(t, s); !v.Free() || v.Until != 0 {
		t.Errorf("a lease that was never owned: %+v", v)
	}
	before := s.Now()
	first := acquire(t, s, 10*time.Second)
	if first.From < before || first.From > s.Now() {
		t.Errorf("From is %v, and the attempt began at %v", first.From, before)
	}
	if first.Holder.Epoch == 0 || first.Holder.AcquiredAt.IsZero() || first.Holder.RenewedAt.IsZero() {
		t.Errorf("not filled in: %+v", first.Holder)
	}

	other := New(c, "/k")
	refused, err := other.Acquire(t.Context(), claim(5*time.Second))
	must(t, err)
	seen := look(t, other)
	for _, holder := range []owner.Record{refused.Holder, seen.Holder} {
		if holder.InstanceID != first.Holder.InstanceID || holder.Epoch != first.Holder.Epoch || holder.PID != 42 || holder.TTL != 10*time.Second ||
			holder.Meta[owner.EndpointMetaKey] != "tcp:here:1" || holder.AcquiredAt.Sub(first.Holder.AcquiredAt).Abs() > time.Microsecond {
			t.Errorf("the owner is %+v, and others see %+v", first.Holder, holder)
		}
		if age := time.Since(holder.RenewedAt); age < 0 || age > 2*time.Second {
			t.Errorf("renewed %v ago", age)
		}
	}
	if refused.Lease != nil || leases(t, c) != 2 {
		t.Errorf("a refused attempt leaves %d etcd leases, a lease %v", leases(t, c)-2, refused.Lease)
	}
	if least, most := first.From+10*time.Second, other.Now()+12*time.Second; seen.Until < least || seen.Until > most {
		t.Errorf("until %v, and it can be from %v to %v", seen.Until, least, most)
	}

	must(t, first.Lease.Renew(t.Context(), s.Now()))
	must(t, first.Lease.Release(t.Context()))
	if v := look(t, other); !v.Free() || leases(t, c) != 0 || keys(t, c, "/k") != 0 {
		t.Errorf("a release leaves %d etcd leases, %d keys, and %+v", leases(t, c), keys(t, c, "/k"), v)
	}
	second := acquire(t, other, 5*time.Second)
	if second.Holder.Epoch <= first.Holder.Epoch {
		t.Errorf("epoch %d after %d", second.Holder.Epoch, first.Holder.Epoch)
	}
	must(t, second.Lease.Release(context.Background()))
}

// The validity counts from before etcd begins to count.
func TestFrom(t *testing.T) {
	t.Parallel()
	c, line := through(t, etcdtest.Start(t))
	s := New(c, "/k")
	granted := time.Duration(math.MaxInt64)
	var mu sync.Mutex
	line.disturb(only("grant", func(ctx context.Context, _ string, apply func(context.Context) error) error {
		mu.Lock()
		granted = min(granted, s.Now())
		mu.Unlock()
		return apply(ctx)
	}))
	acq := acquire(t, s, time.Minute)
	if acq.From > granted {
		t.Errorf("From is %v after the first grant", acq.From-granted)
	}
	must(t, acq.Lease.Release(context.Background()))
}

// The remaining time of a lease is never too short, and its last renewal never too late;
// both to a second.
func TestLookOfAnOldLease(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	s := New(c, "/k")
	acq := acquire(t, s, 10*time.Second)
	time.Sleep(2500 * time.Millisecond) // the age that the lease is to have: at least
	before := s.Now()
	v := look(t, s)
	asked := s.Now() - before
	until := v.Until - (acq.From + 10*time.Second)
	if until < 0 || until > 1500*time.Millisecond+asked+500*time.Millisecond {
		t.Errorf("said to last %v longer than it does", until)
	}
	early := acq.Holder.RenewedAt.Sub(v.Holder.RenewedAt)
	if early < 0 && early < -asked-500*time.Millisecond || early > time.Second {
		t.Errorf("said to have been renewed %v before it was", early)
	}
	must(t, acq.Lease.Renew(t.Context(), s.Now()))
	renewed := time.Now()
	if v := look(t, s); v.Holder.RenewedAt.Sub(renewed).Abs() > 1500*time.Millisecond {
		t.Errorf("renewed at %v, and said to have been at %v", renewed, v.Holder.RenewedAt)
	}
	must(t, acq.Lease.Release(context.Background()))
}
