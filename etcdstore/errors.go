package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ownerlease/owner"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// requestTimeout is how long a request may take before it is made again, at the client's
// next endpoint if it has several. A member that is cut off may take the request and
// never answer.
//
// It is made three times at most, each with twice the time of the one before, so that a
// cluster that is only slow gets its answer in. Together that is less than a third of
// the TTL. An owner renews after a third, and stops after three quarters: all of that
// fits in between, and another try behind it.
type requestTimeout time.Duration

const tries = 3

// requestTimeoutFor is short enough for the TTL, but not so short that a busy machine would be
// taken for one that is cut off (which leaves a TTL of a second two tries), nor so long
// that the wait for one that is cut off is too long.
func requestTimeoutFor(ttl time.Duration) requestTimeout {
	return requestTimeout(min(max(ttl/24, 80*time.Millisecond), time.Second))
}

// readTimeout is for calls that do not know the TTL yet.
const readTimeout = requestTimeout(250 * time.Millisecond)

// call makes a request, which has to be one that may be applied twice.
func call[T any](ctx context.Context, s *store, p requestTimeout, request func(context.Context) (T, error)) (T, error) {
	// Members that know no leader refuse at once, and say so.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	defer context.AfterFunc(s.client.Ctx(), cancel)() // a closed client would keep trying
	for n := 0; ; n++ {
		try, end := context.WithTimeout(ctx, time.Duration(p)<<n)
		answer, err := request(try)
		err = rpctypes.Error(err) // the client's methods have done so, a bare request has not
		if err != nil && ctx.Err() == nil && try.Err() != nil {
			err = fmt.Errorf("%w within %v", errSlow, time.Duration(p)<<n)
		}
		end()
		if err == nil || n == tries-1 || !isPassing(err) || !sleep(ctx, time.Duration(p)/8<<n) {
			return answer, err
		}
	}
}

var errSlow = errors.New("no answer")

// sleep reports whether ctx has not ended by then.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failed says what was tried, and what the user can do about it. Where ctx has ended, its
// cause is the error.
func (s *store) failed(ctx context.Context, what string, err error) error {
	what += " at " + s.String()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case s.client.Ctx().Err() != nil:
		return fmt.Errorf("%s: the etcd client was closed", what)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%s: etcd's space quota is used up; compact and defragment it, then disarm the alarm (etcdctl compact, defrag, alarm disarm): %w", what, err)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return fmt.Errorf("%s: etcd wants a user; give the client a Username and a Password, or a certificate: %w", what, err)
	case code(err) == codes.PermissionDenied:
		return fmt.Errorf("%s: the client's user needs a role with readwrite permission from %q to %q (etcdctl role grant-permission ROLE readwrite KEY END): %w",
			what, s.key, s.rangeEnd(), err)
	case isPassing(err):
		return fmt.Errorf("%w: %s: %w (endpoints: %s)", owner.ErrUnavailable, what, err, strings.Join(s.client.Endpoints(), ", "))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isPassing reports whether an error can pass by itself: it says only that the request
// got no answer, or was refused for now.
func isPassing(err error) bool {
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal: // Canceled: the client was closed
		return true
	case codes.Unknown:
		// Errors of a leader that is about to go have no specific code.
		return errors.Is(err, errSlow) || strings.Contains(err.Error(), "not a primary lessor") || strings.Contains(err.Error(), "raft proposal dropped")
	}
	return errors.Is(err, rpctypes.ErrTooManyRequests) || errors.Is(err, rpctypes.ErrAuthOldRevision) ||
		errors.Is(err, errLearner)
}

// errLearner is the error of a member that does not take part yet.
var errLearner = rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)

func isNotFound(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

// code is the gRPC code of an error of the client's or of a bare request.
func code(err error) codes.Code {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code()
	}
	return status.Code(err)
}
