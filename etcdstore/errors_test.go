package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"io"
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
		{fmt.Errorf("%w within %v", errSlow, time.Second), true},
		{status.Error(codes.Unavailable, "connection refused"), true},
		{status.Error(codes.DeadlineExceeded, "too slow"), true},
		{status.Error(codes.Internal, "stream terminated"), true},
		{status.Error(codes.Unknown, "not a primary lessor"), true},
		{status.Error(codes.Unknown, "raft proposal dropped"), true},
		{rpctypes.ErrNoSpace, false},
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

// A request is tried three times, each time twice as long, where that can help.
func TestCall(t *testing.T) {
	t.Parallel()
	s := New(etcdtest.Start(t).Client(t), "/k").(*store)
	var given []time.Duration
	try := func(answer func(ctx context.Context) error) error {
		given = nil
		_, err := call(t.Context(), s, requestTimeout(50*time.Millisecond), func(ctx context.Context) (int, error) {
			at, _ := ctx.Deadline()
			given = append(given, time.Until(at))
			return 0, answer(ctx)
		})
		return err
	}
	if err := try(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }); !errors.Is(err, errSlow) {
		t.Error(err)
	}
	if len(given) != 3 || given[1] <= 50*time.Millisecond || given[2] <= 100*time.Millisecond || given[2] > 200*time.Millisecond {
		t.Errorf("given %v", given)
	}
	if err := try(func(context.Context) error { return rpctypes.ErrNoLeader }); err != rpctypes.ErrNoLeader || len(given) != 3 {
		t.Errorf("%v after %d tries", err, len(given))
	}
	if err := try(func(context.Context) error { return rpctypes.ErrNoSpace }); err != rpctypes.ErrNoSpace || len(given) != 1 {
		t.Errorf("%v after %d tries", err, len(given))
	}
}

// A renewal's tries fit in before an owner's fence, and leave room for another; those of a
// long TTL end soon.
func TestPatience(t *testing.T) {
	for ttl := 2 * time.Second; ttl < 24*time.Hour; ttl += ttl / 10 {
		p := time.Duration(requestTimeoutFor(ttl))
		all := p + p/8 + 2*p + p/4 + 4*p
		if left := ttl*3/4 - ttl/3 - all - ttl/20; left <= 0 {
			t.Errorf("a TTL of %v: the tries take %v, and leave %v", ttl, all, left)
		}
		if all > 8*time.Second {
			t.Errorf("a TTL of %v: the tries take %v", ttl, all)
		}
	}
}
