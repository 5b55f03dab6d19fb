package owner

import (
	"errors"
	"time"
)

var errNoHealth = errors.New("no answer of Healthy in time")

// askHealth asks while the ownership lasts. The actor counts the time, not this
// goroutine: it hangs where the work does.
func (a *actor) askHealth(every time.Duration) {
	next := time.NewTicker(every)
	defer next.Stop()
	for {
		select {
		case a.mailbox <- input{kind: inputHealth, sick: a.healthy(a.ctx)}:
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
