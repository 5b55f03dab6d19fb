package ownergrpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// An attempt follows one call through gRPC, which may send it several times, as after a
// GOAWAY. Its context leads from the interceptor to the picker.
type attempt struct {
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer

	mu     sync.Mutex
	flying bool // it has a connection
	begun  bool // a server may have run the handler
	late   bool // the hold is over: it gets no connection any more
}

type attemptKey struct{}

// newAttempt returns an attempt that waits for a connection until the deadline, and lasts
// for as long as ctx once it has one.
func newAttempt(ctx context.Context, deadline time.Time) *attempt {
	a := new(attempt)
	a.ctx, a.cancel = context.WithCancel(context.WithValue(ctx, attemptKey{}, a))
	a.timer = time.AfterFunc(time.Until(deadline), a.expire)
	return a
}

// attemptOf returns the attempt that a call belongs to, nil for a call without the
// interceptor.
func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// begin gives the call the connection that was picked for it, unless it is too late.
func (a *attempt) begin(picked balancer.PickResult) (balancer.PickResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.late {
		return balancer.PickResult{}, status.Error(codes.Unavailable, "ownergrpc: no owner in time")
	}
	a.flying = true
	done := picked.Done
	picked.Done = func(info balancer.DoneInfo) {
		a.end(info)
		if done != nil {
			done(info)
		}
	}
	return picked, nil
}

// end is called when gRPC has the outcome of a pick: it may pick again.
func (a *attempt) end(info balancer.DoneInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flying = false
	a.begun = a.begun || info.BytesSent && !saysNotBegun(info.Trailer)
	if a.late {
		a.cancel()
	}
}

func (a *attempt) expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.late = true
	if !a.flying {
		a.cancel()
	}
}

// finish ends the attempt, and reports whether a server may have run the handler.
func (a *attempt) finish() (begun bool) {
	a.timer.Stop()
	a.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.begun || a.flying
}
