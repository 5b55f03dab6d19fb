package etcdstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
)

func join(tb testing.TB, ctx context.Context, s owner.Store, opts ...func(*owner.Config)) *owner.Owner {
	tb.Helper()
	cfg := owner.Config{Store: s, TTL: 30 * time.Second, Standby: true}
	for _, opt := range opts {
		opt(&cfg)
	}
	o, err := owner.Join(ctx, cfg)
	must(tb, err)
	tb.Cleanup(func() { _ = o.Release() })
	return o
}

// eventually waits for a channel; the limit only ends a hang.
func eventually(tb testing.TB, c <-chan struct{}, what string) {
	tb.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		tb.Fatalf("%s: not within a minute", what)
	}
}

func TestHandover(t *testing.T) {
	t.Parallel()
	s := New(etcdtest.Start(t).Client(t), "/k")
	first := join(t, t.Context(), s)
	second := join(t, t.Context(), s)
	if second.IsOwner() || second.Endpoint() != first.Endpoint() || second.InstanceID() != first.InstanceID() {
		t.Errorf("the follower follows %s, and %s owns", second.InstanceID(), first.InstanceID())
	}
	must(t, first.Release())
	eventually(t, second.Elected(), "elected after the release")
	if !second.IsOwner() || second.Epoch() <= first.Epoch() {
		t.Errorf("epoch %d after %d", second.Epoch(), first.Epoch())
	}
	must(t, second.Release())
	<-second.Done()
}

// An owner that dies has a successor when its lease has expired: within the TTL and a
// second, as BenchmarkCrash shows on an idle machine.
func TestCrash(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	dying := srv.Client(t)
	first := join(t, t.Context(), New(dying, "/k"), func(c *owner.Config) { c.TTL = 4 * time.Second })
	second := join(t, t.Context(), New(srv.Client(t), "/k"))
	died := time.Now()
	must(t, dying.Close()) // as far as etcd can see, the process has ended
	eventually(t, second.Elected(), "elected after the crash")
	if took := time.Since(died); took > 8*time.Second {
		t.Errorf("after %v", took)
	}
	eventually(t, first.Lost(), "lost")
	if err := first.LostErr(); first.IsOwner() || !errors.Is(err, owner.ErrExpired) {
		t.Errorf("the first has lost it by %v", err)
	}
}
