package ownergrpc

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ownerlease/owner"
)

// serveIfStarted makes this program a server, if a test has started it as one.
var serveIfStarted = func() bool { return false }

func TestMain(m *testing.M) {
	if serveIfStarted() {
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	sayMethod  = "/owner.test.Talk/Say"
	chatMethod = "/owner.test.Talk/Chat"
	ttl        = 10 * time.Second // no test waits for an expiry
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func within(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("after 20 s still waiting: " + what)
	}
}

// A talker is the service of one test server.
type talker struct {
	say  func(ctx context.Context, said string) (string, error)
	chat func(grpc.ServerStream) error
	runs atomic.Int32 // of handlers

	mu   sync.Mutex
	mds  []metadata.MD // of the calls
	said map[string]int
}

func (s *talker) unary(ctx context.Context, said string) (string, error) {
	s.runs.Add(1)
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	s.mds = append(s.mds, md)
	s.said[said]++
	s.mu.Unlock()
	return s.say(ctx, said)
}

func (s *talker) last() metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mds[len(s.mds)-1]
}

var talk = grpc.ServiceDesc{
	ServiceName: "owner.test.Talk",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.StringValue)
		if err := decode(in); err != nil {
			return nil, err
		}
		handler := func(ctx context.Context, req any) (any, error) {
			out, err := srv.(*talker).unary(ctx, req.(*wrapperspb.StringValue).Value)
			return wrapperspb.String(out), err
		}
		if interceptor == nil {
			return handler(ctx, in)
		}
		return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: sayMethod}, handler)
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: func(srv any, ss grpc.ServerStream) error {
		srv.(*talker).runs.Add(1)
		return srv.(*talker).chat(ss)
	}}},
}

// A node is an instance that owns or is a standby, and its server.
type node struct {
	*talker
	o        *owner.Owner
	server   *grpc.Server
	endpoint string
}

// listenOn returns a listener and its endpoint.
func listenOn(t testing.TB, network string) (net.Listener, string) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	must(t, err)
	return l, network + ":" + l.Addr().String()
}

// serve serves at l for o.
func serve(t testing.TB, o *owner.Owner, l net.Listener, endpoint string) *node {
	n := &node{o: o, endpoint: endpoint, talker: &talker{said: map[string]int{}}}
	n.say = func(context.Context, string) (string, error) { return endpoint, nil }
	n.chat = func(grpc.ServerStream) error { return nil }
	n.server = grpc.NewServer(grpc.UnaryInterceptor(UnaryServerInterceptor(o)), grpc.StreamInterceptor(StreamServerInterceptor(o)))
	n.server.RegisterService(&talk, n.talker)
	served := make(chan struct{})
	go func() { defer close(served); _ = n.server.Serve(l) }()
	t.Cleanup(func() { n.server.Stop(); <-served })
	return n
}

// join makes a node that owns the lease, or is a standby for it.
func join(t testing.TB, s owner.Store, network string) *node {
	t.Helper()
	l, endpoint := listenOn(t, network)
	return serve(t, member(t, s, endpoint), l, endpoint)
}

func member(t testing.TB, s owner.Store, endpoint string) *owner.Owner {
	t.Helper()
	o, err := owner.Join(context.Background(), owner.Config{Store: s, TTL: ttl, Endpoint: endpoint, Standby: true})
	must(t, err)
	t.Cleanup(func() { _ = o.Release(); <-o.Done() })
	return o
}

func fileStore(t testing.TB) (s owner.Store, target string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a lease?%41#")
	s, err := owner.FileStore(path)
	must(t, err)
	return s, Target(path)
}

// dial connects without interceptors.
func dial(t testing.TB, target string, r resolver.Builder, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithResolvers(r),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}, MinConnectTimeout: time.Second}),
	}, opts...)...)
	must(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

// dialStore connects to the owner of the lease that s keeps, with the interceptors.
func dialStore(t testing.TB, s owner.Store, r Retry) *grpc.ClientConn {
	return dial(t, "owner:///", NewStoreResolver(s), grpc.WithUnaryInterceptor(UnaryClientInterceptor(r)), grpc.WithStreamInterceptor(StreamClientInterceptor()))
}

func say(ctx context.Context, cc *grpc.ClientConn, what string, opts ...grpc.CallOption) (string, error) {
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, sayMethod, wrapperspb.String(what), out, opts...)
	return out.Value, err
}

// reached makes a call, which must arrive at n and name it.
func reached(t testing.TB, cc *grpc.ClientConn, n *node) {
	t.Helper()
	got, err := say(t.Context(), cc, "")
	must(t, err)
	if got != n.endpoint {
		t.Fatalf("%s has answered; the owner is %s", got, n.endpoint)
	}
	id, given, err := identityOf(n.last())
	if want := (identity{n.o.InstanceID(), n.o.Epoch()}); err != nil || !given || id != want {
		t.Fatalf("the call names %v (%v); the owner is %v", id, err, want)
	}
}

// elected waits until n owns.
func (n *node) elected(t testing.TB) {
	t.Helper()
	within(t, "the election", n.o.Elected())
}

// untilUnavailable makes calls without waiting until one fails as Unavailable and says why.
func untilUnavailable(t testing.TB, cc *grpc.ClientConn, why string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		_, err = say(t.Context(), cc, "")
		if status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), why) {
			return
		}
	}
	t.Fatalf("after 10 s: %v; want Unavailable: %s", err, why)
}

func wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v; want %v", err, want)
	}
}

// listenAgain listens where another has listened just now.
func listenAgain(t testing.TB, address string) net.Listener {
	t.Helper()
	for {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return l
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}
