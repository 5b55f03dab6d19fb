package ownergrpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// allIdempotent are the calls of a client whose methods may all run twice.
var allIdempotent = Retry{Idempotent: func(string) bool { return true }}

// Calls during takeovers are not lost, and run once: the owners release, with and without
// draining, or lose the lease while their servers continue.
func TestTakeoversUnderCalls(t *testing.T) {
	ends := map[string]func(*testing.T, *ownertest.Memory, *node){
		"drained": func(t *testing.T, _ *ownertest.Memory, n *node) {
			n.server.GracefulStop()
			must(t, n.o.Release())
		},
		"released": func(t *testing.T, _ *ownertest.Memory, n *node) { must(t, n.o.Release()) },
		"lost": func(t *testing.T, s *ownertest.Memory, n *node) {
			lose(t, s, n.o)
			must(t, n.o.Release())
		},
	}
	for name, end := range ends {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(name+"/"+network, func(t *testing.T) { takeoversUnderCalls(t, network, end) })
		}
	}
}

func takeoversUnderCalls(t *testing.T, network string, end func(*testing.T, *ownertest.Memory, *node)) {
	const clients, takeovers = 4, 5
	s := ownertest.NewMemory()
	nodes := []*node{joinShort(t, s, network)}
	cc := dialStore(t, s, Retry{})
	var stopped atomic.Bool
	var calling sync.WaitGroup
	var calls [clients]int
	for c := range clients {
		calling.Go(func() {
			for ; !stopped.Load(); calls[c]++ {
				if _, err := say(t.Context(), cc, fmt.Sprint(c, "/", calls[c])); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range takeovers {
		last := nodes[len(nodes)-1]
		next := joinShort(t, s, network)
		for last.runs.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		end(t, s, last)
		next.elected(t)
		nodes = append(nodes, next)
	}
	for nodes[takeovers].runs.Load() == 0 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	stopped.Store(true)
	calling.Wait()
	ranOnce(t, nodes, calls[:])
}

// joinShort is join, of a lease that is lost soon after a revocation.
func joinShort(t *testing.T, s owner.Store, network string) *node {
	t.Helper()
	l, endpoint := listenOn(t, network)
	o, err := owner.Join(context.Background(), owner.Config{Store: s, TTL: 2 * time.Second, RenewInterval: 20 * time.Millisecond, Endpoint: endpoint, Standby: true})
	must(t, err)
	t.Cleanup(func() { _ = o.Release(); <-o.Done() })
	return serve(t, o, l, endpoint)
}

// ranOnce checks the servers' journals.
func ranOnce(t *testing.T, nodes []*node, calls []int) {
	t.Helper()
	ran := map[string]int{}
	for _, n := range nodes {
		n.mu.Lock()
		for said, times := range n.said {
			ran[said] += times
		}
		n.mu.Unlock()
	}
	for c, n := range calls {
		for i := range n {
			if times := ran[fmt.Sprint(c, "/", i)]; times != 1 {
				t.Errorf("call %d of client %d has run %d times", i, c, times)
			}
		}
	}
}

// A server that ends in the middle of a call leaves its outcome unknown. Only an idempotent
// call is sent again.
func TestOutcomeUnknown(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		t.Run(fmt.Sprint("idempotent ", idempotent), func(t *testing.T) {
			s := ownertest.NewMemory()
			first := join(t, s, "unix")
			second := join(t, s, "unix")
			first.say = func(ctx context.Context, _ string) (string, error) {
				go first.server.Stop()
				<-ctx.Done() // its connection's end
				go func() { _ = first.o.Release() }()
				return "", ctx.Err()
			}
			asked := ""
			cc := dialStore(t, s, Retry{Idempotent: func(method string) bool { asked = method; return idempotent }})
			_, err := say(t.Context(), cc, "x")
			if asked != sayMethod {
				t.Errorf("asked for %q", asked)
			}
			if !idempotent {
				wants(t, err, ErrOutcomeUnknown)
				if status.Code(err) != codes.Unavailable || second.runs.Load() != 0 {
					t.Errorf("%v; the second server has run %d calls", err, second.runs.Load())
				}
				return
			}
			must(t, err)
			if first.runs.Load() != 1 || second.runs.Load() != 1 {
				t.Errorf("runs: %d, %d", first.runs.Load(), second.runs.Load())
			}
		})
	}
}

// A handler that gave up at the loss has begun.
func TestInterruptedByLoss(t *testing.T) {
	s, n := shortOwner(t)
	n.say = func(ctx context.Context, _ string) (string, error) {
		lose(t, s, n.o)
		<-ctx.Done()
		return "", ctx.Err()
	}
	_, err := say(t.Context(), dialStore(t, s, Retry{}), "x")
	wants(t, err, ErrOutcomeUnknown)
	if n.runs.Load() != 1 {
		t.Errorf("%d runs", n.runs.Load())
	}
}

// Without an owner a call waits, and ends when the hold is over, or its context. It has not
// begun.
func TestHold(t *testing.T) {
	s := ownertest.NewMemory()
	for _, trouble := range []string{"no owner", "a store that hangs"} {
		if trouble != "no owner" {
			s.Hang(ownertest.Look)
		}
		attempts := 0
		cc := dial(t, "owner:///", NewStoreResolver(s), grpc.WithChainUnaryInterceptor(
			UnaryClientInterceptor(Retry{Hold: 50 * time.Millisecond}),
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				attempts++
				return invoker(ctx, method, req, reply, cc, opts...)
			}))
		for range 2 { // the first waits for the resolver, too
			begin := time.Now()
			_, err := say(t.Context(), cc, "")
			wants(t, err, ErrNotBegun)
			if took := time.Since(begin); status.Code(err) != codes.Unavailable || took < 25*time.Millisecond || took > 10*time.Second {
				t.Errorf("%s: %v, after %v", trouble, err, took)
			}
		}
		if attempts != 2 {
			t.Errorf("%s: 2 calls that wait made %d attempts", trouble, attempts)
		}
		endsWithContext(t, s)
	}
}

func endsWithContext(t *testing.T, s owner.Store) {
	t.Helper()
	cc := dialStore(t, s, Retry{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for range 2 { // the second when it has ended
		_, err := say(ctx, cc, "")
		wants(t, err, ErrNotBegun)
		if status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	}
}

// After the hold gRPC's own repetitions of a call get no connection, and no time.
func TestHoldEndsRepetitions(t *testing.T) {
	fly := func(a *attempt) func(balancer.DoneInfo) {
		t.Helper()
		picked, err := a.begin(balancer.PickResult{})
		must(t, err)
		return picked.Done
	}
	a := newAttempt(t.Context(), time.Now().Add(time.Hour))
	fly(a)(balancer.DoneInfo{}) // that connection was closing
	done := fly(a)
	a.expire()
	if a.ctx.Err() != nil {
		t.Error("the hold has ended a call that runs")
	}
	done(balancer.DoneInfo{})
	if _, err := a.begin(balancer.PickResult{}); a.ctx.Err() == nil || status.Code(err) != codes.Unavailable {
		t.Errorf("after the hold: %v, %v", a.ctx.Err(), err)
	}
	if a.finish() {
		t.Error("nothing was sent, and it is said to have begun")
	}
	a = newAttempt(t.Context(), time.Now().Add(time.Hour))
	fly(a)
	if !a.finish() {
		t.Error("a call without an outcome is said not to have begun")
	}
}

// The hold does not end a call that runs.
func TestHoldLetsCallsRun(t *testing.T) {
	s := ownertest.NewMemory()
	n := join(t, s, "unix")
	n.say = func(context.Context, string) (string, error) { time.Sleep(100 * time.Millisecond); return "late", nil }
	if _, err := say(t.Context(), dialStore(t, s, Retry{Hold: 20 * time.Millisecond}), ""); err != nil {
		t.Error(err)
	}
}

// A call that an owner refuses for as long as the hold lasts has not begun.
func TestRefusedUntilHoldEnds(t *testing.T) {
	s, n := shortOwner(t)
	lose(t, s, n.o) // the record stays: it was not released
	_, err := say(t.Context(), dialStore(t, s, Retry{Hold: 50 * time.Millisecond}), "")
	wants(t, err, ErrNotBegun)
	if n.runs.Load() != 0 {
		t.Error("a handler has run")
	}
}

// A call that ends with its context, in progress, has an unknown outcome; answers pass.
func TestCallersContextAndAnswers(t *testing.T) {
	s := ownertest.NewMemory()
	n := join(t, s, "unix")
	cc := dialStore(t, s, allIdempotent)
	n.say = func(ctx context.Context, said string) (string, error) {
		if code, err := strconv.Atoi(said); err == nil {
			return "", status.Error(codes.Code(code), "an answer")
		}
		<-ctx.Done()
		return "", ctx.Err()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := say(ctx, cc, "")
	wants(t, err, ErrOutcomeUnknown)
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "DeadlineExceeded") {
		t.Error(err)
	}
	runs := n.runs.Load()
	for _, code := range []codes.Code{codes.NotFound, codes.Canceled, codes.DeadlineExceeded, codes.Internal} {
		_, err := say(t.Context(), cc, strconv.Itoa(int(code)))
		if status.Code(err) != code || errors.Is(err, ErrNotBegun) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%v: %v", code, err)
		}
	}
	// Of a call with a deadline the server may notice the end first.
	far, cancelFar := context.WithTimeout(t.Context(), time.Hour)
	defer cancelFar()
	_, err = say(far, cc, strconv.Itoa(int(codes.DeadlineExceeded)))
	wants(t, err, ErrOutcomeUnknown)
	if got := n.runs.Load() - runs; got != 5 {
		t.Errorf("5 calls that were answered have run %d times", got)
	}
}

// gRPC's own retries do not hide that a handler has run.
func TestRetryPolicyIsCounted(t *testing.T) {
	s, n := shortOwner(t)
	n.say = func(context.Context, string) (string, error) {
		lose(t, s, n.o) // gRPC's second try is refused: not begun
		return "", status.Error(codes.Unavailable, "the handler's own")
	}
	policy := ServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`)
	cc := dial(t, "owner:///", NewStoreResolver(s, policy), grpc.WithUnaryInterceptor(UnaryClientInterceptor(Retry{Hold: time.Second})))
	_, err := say(t.Context(), cc, "")
	wants(t, err, ErrOutcomeUnknown)
	if n.runs.Load() != 1 {
		t.Errorf("%d runs", n.runs.Load())
	}
}

// Metadata that names another owner is removed: a server may pass its caller's on.
func TestForeignMetadata(t *testing.T) {
	s := ownertest.NewMemory()
	n := join(t, s, "unix")
	cc := dialStore(t, s, Retry{})
	md := identity{"00000000-0000-4000-8000-000000000000", 1}.metadata()
	md.Set("kept", "yes")
	ctx := metadata.NewOutgoingContext(t.Context(), md)
	_, err := say(ctx, cc, "")
	must(t, err)
	if kept := n.last().Get("kept"); len(kept) != 1 || len(md.Get(instanceKey)) != 1 {
		t.Errorf("%v, %v", n.last(), md)
	}
	if _, err := ended(openChat(ctx, t, cc)); err.Error() != "EOF" {
		t.Error(err)
	}
	if _, err := say(ctx, dial(t, "owner:///", NewStoreResolver(s)), ""); status.Code(err) != codes.InvalidArgument {
		t.Errorf("without the interceptor: %v", err)
	}
}

// On other connections nothing is repeated, as nothing is known.
func TestOtherTarget(t *testing.T) {
	_, n := shortOwner(t)
	must(t, n.o.Release())
	calls := 0
	cc := plain(t, n)
	err := UnaryClientInterceptor(allIdempotent)(t.Context(), sayMethod, nil, nil, cc, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		calls++
		return status.Error(codes.Unavailable, "")
	})
	if calls != 1 || status.Code(err) != codes.Unavailable || errors.Is(err, ErrNotBegun) {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// A stream goes to the owner, and is refused by one that is none any more.
func TestStream(t *testing.T) {
	s, n := shortOwner(t)
	n.chat = func(ss grpc.ServerStream) error { return ss.SendMsg(nil) }
	cc := dialStore(t, s, Retry{})
	if _, err := say(t.Context(), cc, ""); err != nil {
		t.Fatal(err)
	}
	lose(t, s, n.o)
	if trailer, err := ended(openChat(t.Context(), t, cc)); status.Code(err) != codes.Unavailable || !NotBegun(trailer) {
		t.Errorf("%v, %v", err, trailer)
	}
}
