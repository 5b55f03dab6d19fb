package etcdstore

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A line is what a client's requests go through, and what a test can do to them.
type line struct {
	mu sync.Mutex
	f  disturbance
	n  map[string]int // how many there were of each kind

	granted    []clientv3.LeaseID
	leaderless int    // requests that a member without a leader would take
	sending    func() // is called before a keep-alive is sent

	streams  int    // how many were opened for keep-alives
	hung     int    // this many of them, the first ones, bring no more answers
	replaced uint64 // this many leaders were replaced since the one that answers them

	isCut   bool // there are no watches
	watches []context.CancelFunc
}

// A disturbance gets each request, by its kind. apply sends it and waits for the answer;
// what the disturbance returns is what the client gets.
type disturbance func(ctx context.Context, kind string, apply func(context.Context) error) error

func newLine() *line { return &line{n: map[string]int{}} }

// intercept has a client's requests go through the line.
func (l *line) intercept(c *clientv3.Config) {
	c.DialOptions = append(c.DialOptions, grpc.WithChainUnaryInterceptor(l.unary), grpc.WithChainStreamInterceptor(l.stream))
}

// through returns a client whose requests go through a line.
func through(tb testing.TB, srv *etcdtest.Server) (*clientv3.Client, *line) {
	l := newLine()
	return srv.Client(tb, l.intercept), l
}

// disturb has f get each request from now on; nil: all go through.
func (l *line) disturb(f disturbance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f = f
}

// count returns how many requests of a kind there were.
func (l *line) count(kind string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n[kind]
}

// left returns how many etcd leases there are of those that were asked for.
func (l *line) left(tb testing.TB, c *clientv3.Client) (n int) {
	tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.granted)
	for _, id := range slices.Compact(l.granted) {
		resp, err := c.TimeToLive(tb.Context(), id)
		must(tb, err)
		if resp.TTL >= 0 {
			n++
		}
	}
	return n
}

func (l *line) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	kind := kindOf(req)
	l.mu.Lock()
	f := l.f
	l.n[kind]++
	l.require(ctx)
	if grant, ok := req.(*etcdserverpb.LeaseGrantRequest); ok {
		l.granted = append(l.granted, clientv3.LeaseID(grant.ID))
	}
	l.mu.Unlock()
	apply := func(ctx context.Context) error { return invoke(ctx, method, req, reply, cc, opts...) }
	if f == nil {
		return apply(ctx)
	}
	return f(ctx, kind, apply)
}

// kindOf names a request of the store's.
func kindOf(req any) string {
	switch req := req.(type) {
	case *etcdserverpb.LeaseGrantRequest:
		return "grant"
	case *etcdserverpb.LeaseRevokeRequest:
		return "revoke"
	case *etcdserverpb.LeaseTimeToLiveRequest:
		return "left"
	case *etcdserverpb.AuthenticateRequest:
		return "authenticate"
	case *etcdserverpb.TxnRequest:
		switch {
		case len(req.Compare) > 0:
			return "put"
		case req.Success[0].GetRequestTxn() != nil:
			return "delete"
		}
		return "read"
	}
	return "other"
}

// only disturbs requests of one kind.
func only(kind string, f disturbance) disturbance {
	return func(ctx context.Context, k string, apply func(context.Context) error) error {
		if k != kind {
			return apply(ctx)
		}
		return f(ctx, k, apply)
	}
}

var errLine = status.Error(codes.Unavailable, "the line is disturbed")

// answerLost has the request applied, and its answer lost.
func answerLost(ctx context.Context, _ string, apply func(context.Context) error) error {
	_ = apply(ctx)
	return errLine
}

// requestLost sends nothing.
func requestLost(context.Context, string, func(context.Context) error) error { return errLine }

// requestHangs sends nothing, and answers nothing.
func requestHangs(ctx context.Context, _ string, _ func(context.Context) error) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// answerHangs applies the request, and does not answer.
func answerHangs(ctx context.Context, kind string, apply func(context.Context) error) error {
	_ = apply(ctx)
	return requestHangs(ctx, kind, apply)
}

// once disturbs the first request, and lets the others through.
func once(f disturbance) disturbance {
	var first sync.Once
	return func(ctx context.Context, kind string, apply func(context.Context) error) error {
		g := disturbance(func(ctx context.Context, _ string, apply func(context.Context) error) error { return apply(ctx) })
		first.Do(func() { g = f })
		return g(ctx, kind, apply)
	}
}

// hang has the first n streams of keep-alives bring no more answers.
func (l *line) hang(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hung = n
}

// outdate has keep-alives be answered by a leader in an older term than the present.
func (l *line) outdate(outdated bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replaced = 0
	if outdated {
		l.replaced = 1
	}
}

// opened returns how many streams of keep-alives were opened.
func (l *line) opened() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams
}

// cut ends the watches' streams, and refuses new ones; or allows them again.
func (l *line) cut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut = cut; cut {
		for _, end := range l.watches {
			end()
		}
		l.watches = nil
	}
}

func (l *line) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if method == "/etcdserverpb.Watch/Watch" {
		return l.watch(ctx, func(ctx context.Context) (grpc.ClientStream, error) { return open(ctx, desc, cc, method, opts...) })
	}
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	l.require(ctx)
	l.streams++
	return &lineStream{s, l, l.streams}, nil
}

// require counts what does not require a leader; mu is held.
func (l *line) require(ctx context.Context) {
	if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get(rpctypes.MetadataRequireLeaderKey)) == 0 {
		l.leaderless++
	}
}

// watch opens a stream of watches; mu is held.
func (l *line) watch(ctx context.Context, open func(context.Context) (grpc.ClientStream, error)) (grpc.ClientStream, error) {
	if l.isCut {
		return nil, errLine
	}
	l.require(ctx)
	ctx, end := context.WithCancel(ctx)
	s, err := open(ctx)
	if err != nil {
		end()
		return nil, err
	}
	l.watches = append(l.watches, end)
	return &lineStream{s, l, never}, nil
}

type lineStream struct {
	grpc.ClientStream
	line *line
	n    int // which of the line's it is
}

const never = math.MaxInt // a watch's stream does not hang

func (s *lineStream) SendMsg(m any) error {
	s.line.mu.Lock()
	f := s.line.sending
	s.line.mu.Unlock()
	if f != nil && s.n != never {
		f()
	}
	return s.ClientStream.SendMsg(m)
}

func (s *lineStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.line.mu.Lock()
	hung, cut, replaced := s.n != never && s.n <= s.line.hung, s.line.isCut, s.line.replaced
	s.line.mu.Unlock()
	if answer, ok := m.(*etcdserverpb.LeaseKeepAliveResponse); ok && err == nil {
		answer.Header.RaftTerm -= replaced
	}
	switch {
	case err != nil && cut:
		return errLine
	case err == nil && hung:
		<-s.Context().Done()
		return status.FromContextError(s.Context().Err()).Err()
	}
	return err
}
