package ownergrpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// plain connects to a node with no part of this package.
func plain(t testing.TB, n *node) *grpc.ClientConn {
	t.Helper()
	address, err := addressOf(n.endpoint)
	must(t, err)
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

func naming(ctx context.Context, kv ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, kv...)
}

var chatDesc = &talk.Streams[0]

// openChat opens a stream, and sends the messages.
func openChat(ctx context.Context, t testing.TB, cc *grpc.ClientConn, messages ...string) grpc.ClientStream {
	t.Helper()
	cs, err := cc.NewStream(ctx, chatDesc, chatMethod)
	must(t, err)
	for _, m := range messages {
		if err := cs.SendMsg(wrapperspb.String(m)); err != nil && err != io.EOF {
			t.Fatal(err)
		}
	}
	return cs
}

// ended receives until the stream has ended.
func ended(cs grpc.ClientStream) (metadata.MD, error) {
	for {
		if err := cs.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			return cs.Trailer(), err
		}
	}
}

// refusal makes a unary call and a stream, neither of which may reach a handler.
func refusal(ctx context.Context, t *testing.T, n *node, code codes.Code, begun string) {
	t.Helper()
	runs := n.runs.Load()
	cc := plain(t, n)
	var trailer metadata.MD
	_, err := say(ctx, cc, "", grpc.Trailer(&trailer))
	streamTrailer, streamErr := ended(openChat(ctx, t, cc))
	if status.Code(err) != code || status.Code(streamErr) != code {
		t.Errorf("unary: %v; stream: %v; want %v", err, streamErr, code)
	}
	want := begun == "no"
	if NotBegun(trailer) != want || NotBegun(streamTrailer) != want {
		t.Errorf("unary: trailer %v; stream: %v; want owner-begun: %s", trailer, streamTrailer, begun)
	}
	if n.runs.Load() != runs {
		t.Error("a handler has run")
	}
}

// Only an owner serves, and only what is meant for it, or for no one in particular.
func TestServerRefuses(t *testing.T) {
	s := ownertest.NewMemory()
	n, standby := join(t, s, "unix"), join(t, s, "unix")
	id, other := n.o.InstanceID(), "00000000-0000-4000-8000-000000000000"
	mine := identity{id, n.o.Epoch()}.metadata()
	own := metadata.NewOutgoingContext(t.Context(), mine)

	for _, ctx := range []context.Context{t.Context(), own} {
		_, err := say(ctx, plain(t, n), "")
		must(t, err)
		if _, err := ended(openChat(ctx, t, plain(t, n))); err != io.EOF {
			t.Error(err)
		}
	}
	refusal(own, t, standby, codes.Unavailable, "no") // a standby knows the owner's id
	refusal(t.Context(), t, standby, codes.Unavailable, "no")
	refusal(naming(t.Context(), instanceKey, other, epochKey, mine[epochKey][0]), t, n, codes.Unavailable, "no")
	refusal(naming(t.Context(), instanceKey, id, epochKey, mine[epochKey][0]+"0"), t, n, codes.Unavailable, "no")

	must(t, n.o.Release())
	refusal(own, t, n, codes.Unavailable, "no")
	standby.elected(t)
	refusal(own, t, standby, codes.Unavailable, "no")
}

func TestServerRefusesMalformed(t *testing.T) {
	n := join(t, ownertest.NewMemory(), "unix")
	id, epoch := n.o.InstanceID(), identity{epoch: n.o.Epoch()}.metadata()[epochKey][0]
	for _, kv := range [][]string{
		{instanceKey, id},
		{epochKey, epoch},
		{instanceKey, id, epochKey, epoch, epochKey, epoch},
		{instanceKey, id, instanceKey, id, epochKey, epoch},
		{instanceKey, "", epochKey, epoch},
		{instanceKey, strings.ToUpper(id), epochKey, epoch},
		{instanceKey, id + "0", epochKey, epoch},
		{instanceKey, strings.ReplaceAll(id, "-", "0"), epochKey, epoch},
		{instanceKey, strings.Repeat("a", 4000), epochKey, epoch},
		{instanceKey, id, epochKey, ""},
		{instanceKey, id, epochKey, "0"},
		{instanceKey, id, epochKey, "+" + epoch},
		{instanceKey, id, epochKey, "0" + epoch},
		{instanceKey, id, epochKey, "-1"},
		{instanceKey, id, epochKey, "1e3"},
		{instanceKey, id, epochKey, "18446744073709551616"},
		{instanceKey, id, epochKey, epoch + ", " + epoch},
	} {
		t.Log(kv)
		refusal(naming(t.Context(), kv...), t, n, codes.InvalidArgument, "")
	}
}

// lose takes the lease away from its owner.
func lose(t *testing.T, s *ownertest.Memory, o *owner.Owner) {
	t.Helper()
	s.Revoke()
	within(t, "the loss", o.Lost())
}

// No handler runs at a server that has lost the lease, although its connections stay.
func TestServerThatHasLost(t *testing.T) {
	s := ownertest.NewMemory()
	l, endpoint := listenOn(t, "unix")
	o, err := owner.Join(t.Context(), owner.Config{Store: s, TTL: 300 * time.Millisecond, Endpoint: endpoint})
	must(t, err)
	n := serve(t, o, l, endpoint)
	own := metadata.NewOutgoingContext(t.Context(), identity{o.InstanceID(), o.Epoch()}.metadata())
	cc := plain(t, n)
	_, err = say(own, cc, "")
	must(t, err)
	lose(t, s, o)
	var trailer metadata.MD
	if _, err := say(own, cc, "", grpc.Trailer(&trailer)); status.Code(err) != codes.Unavailable || !NotBegun(trailer) {
		t.Errorf("%v, %v", err, trailer)
	}
	refusal(own, t, n, codes.Unavailable, "no")
	if n.runs.Load() != 1 {
		t.Error("a handler has run after the loss")
	}
	<-o.Done()
}

// shortOwner is an owner that loses the lease soon after a revocation, and its server.
func shortOwner(t *testing.T) (*ownertest.Memory, *node) {
	t.Helper()
	s := ownertest.NewMemory()
	l, endpoint := listenOn(t, "unix")
	o, err := owner.Join(context.Background(), owner.Config{Store: s, TTL: 300 * time.Millisecond, Endpoint: endpoint})
	must(t, err)
	t.Cleanup(func() { _ = o.Release(); <-o.Done() })
	return s, serve(t, o, l, endpoint)
}

// A handler's context ends with the ownership, and says why; the client learns that the
// call has begun.
func TestHandlerEndsWithOwnership(t *testing.T) {
	s, n := shortOwner(t)
	running := make(chan struct{}, 2)
	causes := make(chan error, 2)
	wait := func(ctx context.Context) error {
		running <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	}
	n.say = func(ctx context.Context, _ string) (string, error) { return "", wait(ctx) }
	n.chat = func(ss grpc.ServerStream) error { return wait(ss.Context()) }
	cc := plain(t, n)
	type outcome struct {
		trailer metadata.MD
		err     error
	}
	outcomes := make(chan outcome, 2)
	go func() {
		var trailer metadata.MD
		_, err := say(t.Context(), cc, "", grpc.Trailer(&trailer))
		outcomes <- outcome{trailer, err}
	}()
	cs := openChat(t.Context(), t, cc)
	go func() {
		trailer, err := ended(cs)
		outcomes <- outcome{trailer, err}
	}()
	<-running
	<-running
	lose(t, s, n.o)
	for range 2 {
		var lost *owner.LostError
		if cause := <-causes; !errors.As(cause, &lost) || !errors.Is(cause, owner.ErrRevoked) {
			t.Errorf("the cause is %v", cause)
		}
		if o := <-outcomes; status.Code(o.err) != codes.Unavailable || NotBegun(o.trailer) || o.trailer.Get(begunKey)[0] != "yes" {
			t.Errorf("%v, %v", o.err, o.trailer)
		}
	}
}

// What the handler answers is the answer, during the ownership and after it.
func TestAnswersPass(t *testing.T) {
	for _, want := range []error{nil, status.Error(codes.NotFound, "nothing"), status.Error(codes.Canceled, "by the handler")} {
		_, n := shortOwner(t)
		n.say = func(context.Context, string) (string, error) { return "", want }
		if _, err := say(t.Context(), plain(t, n), ""); status.Code(err) != status.Code(want) {
			t.Errorf("%v; want %v", err, want)
		}
	}
	for _, want := range []error{nil, status.Error(codes.NotFound, "nothing")} {
		s, n := shortOwner(t)
		n.say = func(context.Context, string) (string, error) { lose(t, s, n.o); return "", want }
		if _, err := say(t.Context(), plain(t, n), ""); status.Code(err) != status.Code(want) {
			t.Errorf("after the loss: %v; want %v", err, want)
		}
	}
}

// After the loss a stream's handler gets no message, and sends none.
func TestStreamAfterLoss(t *testing.T) {
	s, n := shortOwner(t)
	received := make(chan struct{})
	outcomes := make(chan error, 2)
	n.chat = func(ss grpc.ServerStream) error {
		must(t, ss.RecvMsg(new(wrapperspb.StringValue)))
		close(received)
		err := ss.RecvMsg(new(wrapperspb.StringValue)) // of what is sent after the loss
		outcomes <- err
		outcomes <- ss.SendMsg(wrapperspb.String("an answer"))
		return err
	}
	cs := openChat(t.Context(), t, plain(t, n), "one")
	<-received
	lose(t, s, n.o)
	must(t, cs.SendMsg(wrapperspb.String("two")))
	for range 2 {
		if err := <-outcomes; status.Code(err) != codes.Unavailable {
			t.Errorf("a message of a former owner: %v", err)
		}
	}
	if trailer, err := ended(cs); status.Code(err) != codes.Unavailable || NotBegun(trailer) {
		t.Errorf("%v, %v", err, trailer)
	}
}

// A server stopped with the ownership ends handlers that wait for a message.
func TestStopEndsReceive(t *testing.T) {
	s, n := shortOwner(t)
	context.AfterFunc(n.o.Context(), n.server.Stop)
	running, left := make(chan struct{}), make(chan struct{})
	n.chat = func(ss grpc.ServerStream) error {
		defer close(left)
		close(running)
		return ss.RecvMsg(new(wrapperspb.StringValue))
	}
	cs := openChat(t.Context(), t, plain(t, n))
	<-running
	lose(t, s, n.o)
	within(t, "the handler's end", left)
	if trailer, err := ended(cs); status.Code(err) != codes.Unavailable || NotBegun(trailer) {
		t.Errorf("%v, %v", err, trailer)
	}
}
