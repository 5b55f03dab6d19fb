package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ownerlease/owner"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// failed says what was tried, and what the user can do about it. Where ctx has ended, its
// cause is the error.
func (s *store) failed(ctx context.Context, what string, err error) error {
	what += " at " + s.String()
	switch {
	case ctx.Err() != nil:
		var none *unansweredError
		if errors.As(err, &none) && none.reasons != "" { // why it has taken so long
			return fmt.Errorf("%s: %w: %s", what, context.Cause(ctx), none.reasons)
		}
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case s.client.Ctx().Err() != nil:
		return fmt.Errorf("%s: the etcd client was closed", what)
	case errors.Is(err, rpctypes.ErrNoSpace):
		// It does not pass by itself, but without a change to the program: one that waits
		// for the lease goes on when there is room, as when there is a majority again.
		return fmt.Errorf("%w: %s: etcd's space quota is used up; compact and defragment it, then disarm the alarm (etcdctl compact, defrag, alarm disarm): %w", owner.ErrUnavailable, what, err)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return fmt.Errorf("%s: etcd wants a user; give the client a Username and a Password, or a certificate: %w", what, err)
	case code(err) == codes.PermissionDenied:
		return fmt.Errorf("%s: the client's user needs a role with readwrite permission for the keys from %q to %q (%s): %w",
			what, s.key, s.alive, s.grantCommand(), err)
	case isPassing(err):
		return fmt.Errorf("%w: %s: %w (endpoints: %s)", owner.ErrUnavailable, what, err, strings.Join(s.client.Endpoints(), ", "))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// grantCommand is what gives a role the permissions that the lease needs. The range ends
// before its second key, and so has both keys of the lease.
func (s *store) grantCommand() string {
	end := []byte(s.alive)
	end[len(end)-1]++ // not the usual end, the key and a NUL, which no shell can pass on
	return "etcdctl role grant-permission ROLE readwrite " + quoted(s.key) + " " + quoted(string(end))
}

// quoted makes one word of a shell's command line.
func quoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:,@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// isPassing reports whether an error can pass by itself: it says only that the request
// got no answer, or was refused for now.
func isPassing(err error) bool {
	if errors.As(err, new(*unansweredError)) || errors.As(err, new(*streamError)) {
		return true
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal: // Canceled: the client was closed
		return true
	case codes.Unknown:
		// Errors of a leader that is about to go have no specific code.
		return errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded) ||
			strings.Contains(err.Error(), "not a primary lessor") || strings.Contains(err.Error(), "raft proposal dropped")
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

// foremost returns the error of several requests that were made at the same time, or nil.
// They mostly have the same to say; one that does not pass by itself says more than that
// there was no answer.
func foremost(errs ...error) (first error) {
	for _, err := range errs {
		if first == nil || err != nil && errors.Is(first, owner.ErrUnavailable) && !errors.Is(err, owner.ErrUnavailable) {
			first = err
		}
	}
	return first
}
