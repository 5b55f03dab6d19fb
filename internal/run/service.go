package run

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/sdnotify"
)

// A service tells the service manager that has started this process, if one has, how it
// is getting on. A standby counts as started, so that no unit times out while it waits.
type service struct {
	manager *sdnotify.Manager // nil: none has
	started sync.Once
	tasks   sync.WaitGroup
	end     context.CancelFunc

	mu     sync.Mutex
	waited bool // the wait for the lease is over
}

// newService takes the manager's variables out of the environment: COMMAND must not speak
// in this process's place.
func newService(warn func(error)) *service {
	m, err := sdnotify.Take()
	if err != nil && warn != nil {
		warn(fmt.Errorf("the service manager cannot be notified: %w", err))
	}
	ctx, end := context.WithCancel(context.Background())
	s := &service{manager: m, end: end}
	if every := m.Watchdog() / 2; every > 0 {
		go s.keepAlive(ctx, every)
	}
	return s
}

func (s *service) keepAlive(ctx context.Context, every time.Duration) {
	next := time.NewTicker(every)
	defer next.Stop()
	for {
		s.manager.Tell(sdnotify.Alive)
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *service) close() {
	s.end()
	s.tasks.Wait()
	s.manager.Close()
}

// ready says once that the start is over. It does not wait: what follows is more urgent.
func (s *service) ready() { s.started.Do(func() { s.tasks.Go(s.manager.TellReady) }) }

func (s *service) status(text string) { s.manager.Tell(sdnotify.Status(text)) }

// stopping says that COMMAND is not to run again.
func (s *service) stopping(why string) { s.manager.Tell(sdnotify.Stopping, sdnotify.Status(why)) }

// standby says so unless the wait is over.
func (s *service) standby(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waited {
		s.status(text)
		s.ready()
	}
}

// waitEnds is called when the lease is owned, or not to be.
func (s *service) waitEnds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited = true
}

// joined is for OnTransition: who waits for the lease is ready to take over.
func (s *service) joined(o *Options, t owner.Transition) {
	if t.Event == "refused" && !o.Nonblock {
		s.standby("standby")
	}
}

// waits says by whom the lease is owned, and again when another owns it.
func (s *service) waits(o *Options, over <-chan struct{}) {
	if s.manager == nil || o.Nonblock {
		return
	}
	var self Mirror
	tellWait(waitTeller{over: over, after: soonTold, call: func(isOver func() bool) {
		if rec, err := o.holder(); err == nil && rec.PID != 0 && !self.Shows(rec) && !isOver() {
			s.standby(sdnotify.Clean(fmt.Sprintf("standby; the lease is owned by pid %d on %s", rec.PID, rec.Host)))
		}
	}})
}

// soonTold is by when a lease that is free has been acquired.
const soonTold = 50 * time.Millisecond
