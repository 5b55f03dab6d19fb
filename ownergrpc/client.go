package ownergrpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What UnaryClientInterceptor's errors match with errors.Is. An error that matches neither
// is the handler's answer, or gRPC's own complaint about the call or the answer. All are
// status errors: [status.Code] and [status.FromError] have the code.
var (
	// ErrNotBegun: no handler has run, and none will. It is safe to send the call again.
	ErrNotBegun = errors.New("ownergrpc: not begun")

	// ErrOutcomeUnknown: a handler may have run, to its end, in part, or not at all.
	ErrOutcomeUnknown = errors.New("ownergrpc: outcome unknown")
)

// A callError is a status error that matches one of the above.
type callError struct {
	kind   error
	status *status.Status
}

func (e *callError) Error() string {
	return fmt.Sprintf("%v: %s: %s", e.kind, e.status.Code(), e.status.Message())
}

func (e *callError) Unwrap() error              { return e.kind }
func (e *callError) GRPCStatus() *status.Status { return e.status }

const (
	defaultHold = 30 * time.Second
	minPause    = time.Millisecond
	maxPause    = 50 * time.Millisecond
)

// Retry says how UnaryClientInterceptor repeats calls. The zero value repeats those that
// have not begun.
type Retry struct {
	// Hold is how long a call waits for an owner, counted from the call, and may be
	// repeated. A call that runs at an owner is not ended by it. Default 30 s, also for a
	// negative one; never beyond the context of the call.
	Hold time.Duration

	// Idempotent says that running the method twice does what running it once does: then a
	// call is also repeated when its outcome is unknown. fullMethod is "/service/method".
	// nil: no method is.
	Idempotent func(fullMethod string) bool
}

// UnaryClientInterceptor returns an interceptor that takes a unary call over a change of
// owner, on a connection with a resolver of this package. The call waits for an owner, as
// with [grpc.WaitForReady], and is sent again, after 1 to 50 ms, when an owner has answered
// that it has not begun, and when its outcome is unknown, with [codes.Unavailable], and its
// method is idempotent. It ends with the handler's answer, when its context ends, or when
// [Retry.Hold] is over.
//
// Errors match [ErrNotBegun] or [ErrOutcomeUnknown], or are the answer. Unavailable, and
// [codes.DeadlineExceeded] of a call with a deadline, are not told from an answer that has
// such a code, and match ErrOutcomeUnknown. A call whose method
// is not idempotent was run at most once, unless an interceptor behind this one, or a
// retryPolicy of the service config, sends it twice. How a call that is in progress at an
// owner that hangs ends, the package's documentation says.
//
// It removes the metadata owner-instance and owner-epoch of the call's context, so that a
// server may pass its caller's metadata on. On a connection to another target it does only
// that.
func UnaryClientInterceptor(r Retry) grpc.UnaryClientInterceptor {
	if r.Hold <= 0 {
		r.Hold = defaultHold
	}
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx = withoutIdentity(ctx)
		if !strings.HasPrefix(cc.Target(), Scheme+":") {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		opts = append([]grpc.CallOption{grpc.WaitForReady(true)}, opts...)
		c := call{retry: &r, method: method, deadline: time.Now().Add(r.Hold)}
		return c.run(ctx, func(ctx context.Context) error {
			return invoker(ctx, method, req, reply, cc, opts...)
		})
	}
}

// StreamClientInterceptor returns an interceptor that removes the metadata owner-instance
// and owner-epoch of a stream's context, as [UnaryClientInterceptor] does. It repeats
// nothing: what has been sent and received on a stream only the caller knows. A stream that
// the server has refused ends with [codes.Unavailable], and [NotBegun] is true for its
// trailer.
func StreamClientInterceptor() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return streamer(withoutIdentity(ctx), desc, cc, method, opts...)
	}
}

// A call is one unary call, over all its attempts.
type call struct {
	retry    *Retry
	method   string
	deadline time.Time // no attempt begins later
	begun    bool      // in one of the attempts a handler may have run
}

func (c *call) run(ctx context.Context, invoke func(context.Context) error) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		a := newAttempt(ctx, c.deadline)
		err := invoke(a.ctx)
		ended := a.ctx.Err() != nil
		begun := a.finish()
		c.begun = c.begun || begun
		switch {
		case err == nil || !undecided(ctx, err, ended):
			return err
		case ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded || begun && !c.idempotent():
			return c.claim(status.Convert(err))
		case !c.rest(ctx, pause):
			return c.claim(c.over(ctx, err))
		}
	}
}

// undecided reports whether an error is no answer of a handler: Unavailable, or that the
// call's context has ended. The server keeps the call's deadline, too, and can notice it
// before the client does.
func undecided(ctx context.Context, err error, ended bool) bool {
	switch status.Code(err) {
	case codes.Unavailable:
		return true
	case codes.Canceled:
		return ended
	case codes.DeadlineExceeded:
		_, bounded := ctx.Deadline()
		return bounded
	default:
		return false
	}
}

func (c *call) idempotent() bool {
	return c.retry.Idempotent != nil && c.retry.Idempotent(c.method)
}

// claim returns an error that says what is known of the call.
func (c *call) claim(s *status.Status) error {
	if c.begun {
		return &callError{ErrOutcomeUnknown, s}
	}
	return &callError{ErrNotBegun, s}
}

// over says why a call is not sent again.
func (c *call) over(ctx context.Context, last error) *status.Status {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err())
	}
	return status.Newf(codes.Unavailable, "no owner within %v: last error: %s", c.retry.Hold, status.Convert(last).Message())
}

// rest waits before the next attempt, and returns false if there is to be none.
func (c *call) rest(ctx context.Context, pause time.Duration) bool {
	pause = pause/2 + rand.N(pause/2)
	if time.Until(c.deadline) <= pause {
		return false
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
