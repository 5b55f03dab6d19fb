package ownergrpc

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ownerlease/owner"
)

// UnaryServerInterceptor returns an interceptor that lets a call through only while o owns
// the lease, and only if it is meant for this ownership: its metadata owner-instance and
// owner-epoch are o's, or it has neither, as that of a client without this package. Put it
// first in the chain: what comes before it runs for refused calls, too.
//
// Other calls end with [codes.Unavailable] and the trailer owner-begun: no. Their handler
// has not run, and will not. Metadata that is malformed, incomplete, or there twice is
// refused with [codes.InvalidArgument].
//
// The handler's context ends when that of the ownership does, [owner.Owner.Context], and has
// its cause: the *[owner.LostError], or [owner.ErrReleased]. A handler that returns an error
// because of that ends the call with Unavailable and the trailer owner-begun: yes. What
// else it returns is the answer, also after the ownership.
//
// It costs nanoseconds, and a context. It does not promise that an effect of the handler
// comes before the end of the ownership: a process may be paused at any point. Pass
// [owner.Owner.Epoch] along with every effect.
func UnaryServerInterceptor(o *owner.Owner) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		a, err := admit(ctx, o)
		if err != nil {
			return nil, err
		}
		defer a.leave()
		resp, err := handler(a.ctx, req)
		return resp, a.answer(ctx, err)
	}
}

// StreamServerInterceptor is UnaryServerInterceptor for streams. After the end of the
// ownership the handler's SendMsg and RecvMsg fail, and no message that has been received is
// given to it.
//
// A handler that waits in SendMsg or RecvMsg waits for the connection, not for its context:
// to end it with the ownership, stop the server then, as with
// context.AfterFunc(o.Context(), server.Stop).
func StreamServerInterceptor(o *owner.Owner) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		a, err := admit(ss.Context(), o)
		if err != nil {
			return err
		}
		defer a.leave()
		return a.answer(ss.Context(), handler(srv, &ownedStream{ss, a}))
	}
}

// NotBegun reports whether the trailer of a call that has failed says that its handler has
// not run and will not, so that it is safe to send it again.
func NotBegun(trailer metadata.MD) bool { return saysNotBegun(trailer) }

// An admission is a call that the owner serves.
type admission struct {
	ctx   context.Context // the handler's
	o     *owner.Owner
	owned context.Context // the ownership's
	leave func()
}

// admit returns an error, and sets the trailer, if the handler must not run.
func admit(ctx context.Context, o *owner.Owner) (*admission, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	id, given, err := identityOf(md)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "ownergrpc: "+err.Error())
	}
	// First: while it is a standby, its id and epoch are its owner's.
	if !o.IsOwner() {
		return nil, refused(ctx, "this instance does not own the lease")
	}
	if given && id != (identity{o.InstanceID(), o.Epoch()}) {
		return nil, refused(ctx, "the call is meant for another owner")
	}
	a := &admission{o: o, owned: o.Context()}
	var cancel context.CancelCauseFunc
	a.ctx, cancel = context.WithCancelCause(ctx)
	stop := context.AfterFunc(a.owned, func() { cancel(context.Cause(a.owned)) })
	a.leave = func() { stop(); cancel(nil) }
	return a, nil
}

func refused(ctx context.Context, why string) error {
	return closed(ctx, "no", why)
}

func closed(ctx context.Context, begun, why string) error {
	if err := grpc.SetTrailer(ctx, metadata.Pairs(begunKey, begun)); err != nil {
		return status.Errorf(codes.Internal, "ownergrpc: %s; the trailer is not set: %v", why, err)
	}
	return status.Error(codes.Unavailable, "ownergrpc: "+why)
}

// answer returns what the client gets for the handler's error. Where the handler gave up
// because of the end of the ownership, that is not the client's cancellation, as which the
// error would arrive.
func (a *admission) answer(caller context.Context, err error) error {
	if err == nil || a.owned.Err() == nil || caller.Err() != nil || !a.because(err) {
		return err
	}
	return closed(caller, "yes", "the ownership ended while the call was in progress")
}

func (a *admission) because(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(a.owned)) || status.Code(err) == codes.Canceled
}

// An ownedStream is a stream that ends with the ownership.
type ownedStream struct {
	grpc.ServerStream
	a *admission
}

// Context implements [grpc.ServerStream].
func (s *ownedStream) Context() context.Context { return s.a.ctx }

// RecvMsg implements [grpc.ServerStream].
func (s *ownedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.check()
}

// SendMsg implements [grpc.ServerStream].
func (s *ownedStream) SendMsg(m any) error {
	if err := s.check(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

func (s *ownedStream) check() error {
	if s.a.o.IsOwner() {
		return nil
	}
	return closed(s.ServerStream.Context(), "yes", "the ownership ended while the stream was in progress")
}
