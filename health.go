package owner

import (
	"context"
	"errors"
	"time"
)

// health is how the owner's work is asked whether it is alive.
type health struct {
	ask   func(context.Context) error
	every time.Duration
}

var errNoHealth = errors.New("no answer of Healthy in time")

// askHealth asks while the ownership lasts. The actor counts the time, not this
// goroutine: it hangs where the work does.
func (a *actor) askHealth(h health) {
	next := time.NewTicker(h.every)
	defer next.Stop()
	for {
		select {
		case a.mailbox <- input{kind: inputHealth, sick: h.ask(a.ctx)}:
		case <-a.ctx.Done():
			return
		}
		select {
		case <-next.C:
		case <-a.ctx.Done():
			return
		}
	}
}
