package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestUnavailable(t *testing.T) {
	t.Parallel()
	s := New(etcdtest.Start(t).Client(t), "/k").(*store)
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{rpctypes.ErrNoLeader, true},
		{rpctypes.ErrLeaderChanged, true},
		{rpctypes.ErrTimeout, true},
		{rpctypes.ErrTimeoutDueToConnectionLost, true},
		{rpctypes.ErrStopped, true},
		{rpctypes.ErrTooManyRequests, true},
		{rpctypes.ErrAuthOldRevision, true},
		{rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner), true},
		{fmt.Errorf("%w within %v", errSilent, time.Second), true},
		{status.Error(codes.Unavailable, "connection refused"), true},
		{status.Error(codes.DeadlineExceeded, "too slow"), true},
		{status.Error(codes.Internal, "stream terminated"), true},
		{status.Error(codes.Unknown, "not a primary lessor"), true},
		{status.Error(codes.Unknown, "raft proposal dropped"), true},
		{rpctypes.ErrNoSpace, true}, // it can be mended while a standby waits
		{rpctypes.ErrPermissionDenied, false},
		{rpctypes.ErrUserEmpty, false},
		{rpctypes.ErrAuthFailed, false},
		{rpctypes.ErrInvalidAuthToken, false},
		{rpctypes.ErrRequestTooLarge, false},
		{rpctypes.ErrLeaseNotFound, false},
		{rpctypes.ErrCorrupt, false},
		{status.Error(codes.Unknown, "who knows"), false},
		{io.EOF, false},
	} {
		err := s.failed(t.Context(), "do it", tc.err)
		if errors.Is(err, owner.ErrUnavailable) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
}

// The error of an unreachable etcd names the endpoints that were tried.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	c := srv.Client(t)
	srv.Stop()
	s := New(c, "/k")
	_, err := s.Acquire(t.Context(), claim(2*time.Second))
	_, looked := s.Look(t.Context())
	for _, err := range []error{err, looked} {
		says(t, "etcd is away", err, owner.ErrUnavailable, "/k", srv.Endpoint())
	}
}

// A renewal's tries fit in before an owner's fence, and leave room for another; those of a
// long TTL end soon.
func TestPatience(t *testing.T) {
	for ttl := 2 * time.Second; ttl < 24*time.Hour; ttl += ttl / 10 {
		all := patienceFor(ttl).whole()
		if left := ttl*3/4 - ttl/3 - all - ttl/20; left <= 0 {
			t.Errorf("a TTL of %v: the tries take %v, and leave %v", ttl, all, left)
		}
		if all > 9*time.Second {
			t.Errorf("a TTL of %v: the tries take %v", ttl, all)
		}
	}
}

// A call's first answer counts. A request that is late is not given up when the next one is
// made, nor is the wait for all of them longer than it may be.
func TestCall(t *testing.T) {
	t.Parallel()
	s := New(etcdtest.Start(t).Client(t), "/k").(*store)
	const p = patience(50 * time.Millisecond)
	var mu sync.Mutex
	asked := 0
	try := func(p patience, answer func(ctx context.Context, n int) error) (by int, err error) {
		asked = 0
		return call(t.Context(), s, p, func(ctx context.Context, _ route) (int, error) {
			mu.Lock()
			asked++
			n := asked
			mu.Unlock()
			return n, answer(ctx, n)
		})
	}
	silent := func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }
	began := time.Now()
	if _, err := try(p, silent); !errors.Is(err, errSilent) || asked != 3 || err.Error() != "no answer within 440ms" {
		t.Errorf("%v, after %d requests", err, asked)
	}
	if took := time.Since(began); took < p.whole() {
		t.Errorf("it has waited for %v", took)
	}
	second := make(chan struct{})
	by, err := try(p, func(ctx context.Context, n int) error {
		if n == 1 {
			<-second // that it is made is what brings this one's answer
			return ctx.Err()
		}
		close(second)
		return silent(ctx, n)
	})
	if by != 1 || err != nil {
		t.Errorf("answered by request %d, %v", by, err)
	}
	if by, err := try(p, func(ctx context.Context, n int) error {
		if n < 3 {
			return silent(ctx, n)
		}
		return nil
	}); by != 3 || err != nil {
		t.Errorf("answered by request %d, %v", by, err)
	}
	if _, err := try(p, func(context.Context, int) error { return rpctypes.ErrNoLeader }); !errors.Is(err, rpctypes.ErrNoLeader) || asked != 3 ||
		err.Error() != rpctypes.ErrNoLeader.Error() {
		t.Errorf("%v after %d requests", err, asked)
	}
	if _, err := try(patience(time.Minute), func(context.Context, int) error { return rpctypes.ErrNoSpace }); !errors.Is(err, rpctypes.ErrNoSpace) || asked != 1 {
		t.Errorf("%v after %d requests", err, asked)
	}
}

// A duration in an error can be read.
func TestRound(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1666666664: "1.7s", 416666666: "420ms", 8750 * time.Millisecond: "8.8s", 700 * time.Millisecond: "700ms",
	} {
		if got := round(d).String(); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// The command in the error of a user without permission can be typed, whatever the key.
func TestGrantCommand(t *testing.T) {
	for key, want := range map[string]string{
		"/k":         "/k /k.alivf",
		"/a b":       "'/a b' '/a b.alivf'",
		"/it's":      `'/it'\''s' '/it'\''s.alivf'`,
		"/$HOME/`x`": "'/$HOME/`x`' '/$HOME/`x`.alivf'",
	} {
		if got := New(nil, key).(*store).grantCommand(); got != "etcdctl role grant-permission ROLE readwrite "+want {
			t.Errorf("%s: %s", key, got)
		}
	}
}
