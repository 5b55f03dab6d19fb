package main

import (
	"context"
	"sync"
)

// A gate lets everything pass, except while it hangs.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // nil while nothing hangs; closed when that ends
}

func (g *gate) hang(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case on && g.open == nil:
		g.open = make(chan struct{})
	case !on && g.open != nil:
		close(g.open)
		g.open = nil
	}
}

// pass returns when the gate is open, or with the end of ctx.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open == nil {
		return ctx.Err()
	}
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
