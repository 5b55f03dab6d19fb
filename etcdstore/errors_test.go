package etcdstore

import (
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
