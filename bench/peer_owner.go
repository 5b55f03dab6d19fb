package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ownerlease/owner"
)

// ownerPeer is a standby until it owns.
type ownerPeer struct {
	cfg   owner.Config
	store *registerStore // nil: the file
	o     *owner.Owner

	mu    sync.Mutex
	begun time.Time       // the renewal under way
	took  []time.Duration // the renewals
}

func openOwner(s spec) (*ownerPeer, error) {
	p := &ownerPeer{cfg: owner.Config{LeasePath: s.Name, TTL: ttl, Standby: true}}
	if s.Register {
		reg, err := dialRegister(s)
		if err != nil {
			return nil, err
		}
		p.store = &registerStore{reg: reg}
		p.cfg.Store = p.store
	}
	if s.Renewals {
		p.cfg.RenewInterval = renewEvery
		p.cfg.OnTransition = p.note
	}
	return p, nil
}

func (p *ownerPeer) campaign(ctx context.Context) error {
	o, err := owner.Join(ctx, p.cfg)
	if err != nil {
		return err
	}
	p.o = o
	select {
	case <-o.Elected():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *ownerPeer) release(context.Context) error { return p.o.Release() }

func (p *ownerPeer) views() []view {
	lost := p.o.Lost()
	return []view{{viewIsOwner, p.o.IsOwner}, {viewLost, func() bool { return !closed(lost) }}}
}

// note measures a renewal: from the decision to renew to the one that it counts.
func (p *ownerPeer) note(t owner.Transition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case t.To == owner.StateRenewing:
		p.begun = t.At
	case t.From == owner.StateRenewing && t.To == owner.StateOwner && t.Err == nil:
		p.took = append(p.took, t.At.Sub(p.begun))
	}
}

func (p *ownerPeer) renew(ctx context.Context, n int) ([]time.Duration, error) {
	if err := p.campaign(ctx); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		if took := p.renewals(); len(took) >= n {
			return took[:n], p.release(ctx)
		}
		time.Sleep(renewEvery)
	}
	return nil, fmt.Errorf("%d renewals of %d: %w", len(p.renewals()), n, ctx.Err())
}

func (p *ownerPeer) renewals() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.took
}

func (p *ownerPeer) hang(on bool) { p.store.reg.gate.hang(on) }

func (p *ownerPeer) renewedAt() time.Duration {
	if p.store == nil {
		return 0
	}
	return time.Duration(p.store.renewed.Load())
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
