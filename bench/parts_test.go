package main

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

func registerClients(t *testing.T) (a, b *registerClient) {
	l, err := (&Register{cells: map[string]Cell{}}).serve()
	must(t, err)
	t.Cleanup(func() { l.Close() })
	for _, c := range []**registerClient{&a, &b} {
		*c, err = dialRegister(spec{Name: "x", Addr: l.Addr().String()})
		must(t, err)
		t.Cleanup(func() { (*c).rpc.Close() })
	}
	return a, b
}

// Of two that know the same version, one replaces it.
func TestRegister(t *testing.T) {
	a, b := registerClients(t)
	must(t, a.put(t.Context(), 1, []byte("a")))
	if err := b.put(t.Context(), 1, []byte("b")); !errors.Is(err, errChanged) {
		t.Errorf("replaced what it did not know: %v", err)
	}
	cell, err := b.get(t.Context())
	must(t, err)
	if cell.Version != 1 || string(cell.Data) != "a" {
		t.Errorf("%+v", cell)
	}
}

func TestGate(t *testing.T) {
	var g gate
	must(t, g.pass(t.Context()))
	g.hang(true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := g.pass(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("passed a gate that hangs: %v", err)
	}
	passed := make(chan error)
	go func() { passed <- g.pass(context.Background()) }()
	g.hang(false)
	must(t, <-passed)
}

// A request that hangs ends with its context, except that of a deaf client.
func TestDeafClient(t *testing.T) {
	a, b := registerClients(t)
	a.gate.hang(true)
	b.gate.hang(true)
	b.deaf = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.get(ctx); err == nil {
		t.Error("got an answer while the register hangs")
	}
	answered := make(chan error, 1)
	go func() { _, err := b.get(ctx); answered <- err }()
	b.gate.hang(false)
	must(t, <-answered)
}

// Like an API server, the lock has its own error for each refusal: the elector
// distinguishes them.
func TestRegisterLock(t *testing.T) {
	x, y := registerClients(t)
	a, b := &registerLock{reg: x}, &registerLock{reg: y}
	if _, _, err := a.Get(t.Context()); !apierrors.IsNotFound(err) {
		t.Errorf("get where there is nothing: %v", err)
	}
	must(t, a.Create(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "a"}))
	if err := b.Create(t.Context(), resourcelock.LeaderElectionRecord{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("create what is there: %v", err)
	}
	rec, _, err := b.Get(t.Context())
	must(t, err)
	if rec.HolderIdentity != "a" {
		t.Errorf("%+v", rec)
	}
	must(t, b.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "b"}))
	if err := a.Update(t.Context(), *rec); !apierrors.IsConflict(err) {
		t.Errorf("update what has changed: %v", err)
	}
}

func TestRegisterStore(t *testing.T) {
	x, y := registerClients(t)
	a, b := &registerStore{reg: x}, &registerStore{reg: y}
	claim := func(id string) owner.Record { return owner.Record{InstanceID: id, TTL: time.Hour} }
	won, err := a.Acquire(t.Context(), claim("a"))
	must(t, err)
	if won.Lease == nil || won.Holder.Epoch != 1 {
		t.Fatalf("%+v", won)
	}
	if refused, err := b.Acquire(t.Context(), claim("b")); err != nil || refused.Lease != nil || refused.Holder.InstanceID != "a" {
		t.Errorf("of a lease that is held: %+v, %v", refused, err)
	}
	// Its last renewal is longer ago than its TTL: another takes it, and it knows.
	must(t, won.Lease.Renew(t.Context(), a.Now()-2*time.Hour))
	next, err := b.Acquire(t.Context(), claim("b"))
	must(t, err)
	if next.Lease == nil || next.Holder.Epoch != 2 {
		t.Fatalf("%+v", next)
	}
	if err := won.Lease.Renew(t.Context(), a.Now()); !errors.Is(err, owner.ErrTakenOver) {
		t.Errorf("the old owner renews: %v", err)
	}
	must(t, won.Lease.Release(t.Context()))
	if view, err := a.Look(t.Context()); err != nil || view.Holder.InstanceID != "b" {
		t.Errorf("the old owner's release has freed the lease: %+v, %v", view, err)
	}
	must(t, next.Lease.Release(t.Context()))
	if view, err := a.Look(t.Context()); err != nil || !view.Free() {
		t.Errorf("not free after the release: %+v, %v", view, err)
	}
}

func TestProxy(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer echo.Close()
	go func() {
		c, err := echo.Accept()
		if err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	p, err := startProxy(echo.Addr().String())
	must(t, err)
	defer p.close()
	c, err := net.Dial("tcp", p.addr())
	must(t, err)
	defer c.Close()
	said := func(what string, limit time.Duration) error {
		_, err := c.Write([]byte(what))
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(limit)))
		_, err = io.ReadFull(c, make([]byte, len(what)))
		return err
	}
	must(t, said("before", time.Minute))
	p.gate.hang(true)
	var timeout net.Error
	if err := said("x", 20*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("while it hangs: %v", err)
	}
	p.gate.hang(false)
	must(t, said("after", time.Minute)) // of which the held-back byte is the first
}

// What was seen, and since when.
func TestObserver(t *testing.T) {
	yes := true
	o := newObserver([]view{{"x", func() bool { return yes }}})
	o.ask(10, false)
	o.ask(20, true)
	if s := o.seen()[0]; s.LastYes != 20 || s.FirstNo != 0 || s.Resumed != 20 || !s.ResumedYes {
		t.Errorf("after two yes: %+v", s)
	}
	yes = false
	o.ask(30, false)
	first := o.seen()[0].FirstNo
	o.ask(40, false)
	if s := o.seen()[0]; s.LastYes != 20 || s.FirstNo < 30 || s.FirstNo != first {
		t.Errorf("after a no, and another: %+v", s)
	}
}

func TestTogether(t *testing.T) {
	for _, tc := range []struct {
		next time.Duration
		seen Sight
		want time.Duration
	}{
		{next: 10, seen: Sight{LastYes: 9, FirstNo: 11}, want: 0},
		{next: 10, seen: Sight{LastYes: 15, FirstNo: 16}, want: 5},
		{next: 10, seen: Sight{LastYes: 15}, want: never},
		{next: never, seen: Sight{LastYes: 15}, want: 0},
	} {
		if got := together(tc.next, &tc.seen); got != tc.want {
			t.Errorf("the next one since %v, %+v: %v, want %v", tc.next, tc.seen, got, tc.want)
		}
	}
}
