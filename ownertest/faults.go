package ownertest

import (
	"context"
	"time"
)

// Op is a kind of call of a store, by which a fault of a Memory is aimed.
type Op string

// The kinds of calls.
const (
	Acquire   Op = "acquire"
	Look      Op = "look"
	Renew     Op = "renew"
	Release   Op = "release"
	Advertise Op = "advertise"
	Handover  Op = "handover" // RequestHandover
)

// Slow delays calls: each is applied when d has passed. If its ctx ends before, it is
// not, and fails with the cause.
func (m *Memory) Slow(d time.Duration, ops ...Op) {
	m.inject(ops, func(ctx context.Context, apply func() error, _ <-chan struct{}) error {
		if err := pause(ctx, d); err != nil {
			return err
		}
		return apply()
	})
}

// Fail makes calls fail with err at once. None is applied.
func (m *Memory) Fail(err error, ops ...Op) {
	m.inject(ops, func(context.Context, func() error, <-chan struct{}) error { return err })
}

// Hang makes calls hang until Heal, or another fault of their kind: then they are
// applied. If ctx ends before, they are not, and fail with the cause.
func (m *Memory) Hang(ops ...Op) {
	m.inject(ops, func(ctx context.Context, apply func() error, over <-chan struct{}) error {
		if err := wait(ctx, over); err != nil {
			return err
		}
		return apply()
	})
}

// Late applies calls at once, but answers only when d has passed, or ctx has ended: with
// err, or with their result if err is nil. An acquisition that fails in this way leaves a
// record without an owner until it expires.
func (m *Memory) Late(d time.Duration, err error, ops ...Op) {
	m.inject(ops, func(ctx context.Context, apply func() error, _ <-chan struct{}) error {
		outcome := apply()
		if err := pause(ctx, d); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		return outcome
	})
}

// Heal ends the faults of these kinds of calls, of all if none is named.
func (m *Memory) Heal(ops ...Op) { m.inject(ops, nil) }

// A fault is injected between a caller and the lease. The call reaches the lease by
// apply; over is closed when the fault is healed.
type fault struct {
	call func(ctx context.Context, apply func() error, over <-chan struct{}) error
	over chan struct{}
}

// inject puts a fault, or none, in the place of those that there are.
func (m *Memory) inject(ops []Op, what func(context.Context, func() error, <-chan struct{}) error) {
	if len(ops) == 0 {
		ops = []Op{Acquire, Look, Renew, Release, Advertise, Handover}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		if f, ok := m.faults[op]; ok {
			close(f.over)
			delete(m.faults, op)
		}
		if what != nil {
			m.faults[op] = fault{what, make(chan struct{})}
		}
	}
}

// call makes a call, through the fault that there is.
func (m *Memory) call(ctx context.Context, op Op, apply func() error) error {
	m.mu.Lock()
	f, faulty := m.faults[op]
	m.mu.Unlock()
	if !faulty {
		return apply()
	}
	return f.call(ctx, apply, f.over)
}

// pause returns when d has passed, or the cause of ctx's end.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	return wait(ctx, t.C)
}

// wait returns when there is something in c, or it is closed; or the cause of ctx's end.
func wait[T any](ctx context.Context, c <-chan T) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
