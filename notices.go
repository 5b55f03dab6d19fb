package owner

import (
	"context"
	"log/slog"
	"time"
)

// Transition is one transition of an Owner's state machine.
type Transition struct {
	From, To State
	// Event is the event that moved it, as in docs/state-diagram.md.
	Event string
	// At is the wall-clock time of the transition.
	At time.Time
	// Epoch is the fencing token of the ownership that the instance had, won or found; 0
	// if it knows none.
	Epoch uint64
	// Err is what went wrong, nil if nothing did; a *LostError on the way to
	// StateLost.
	Err error
}

// notices runs the user's callbacks and the log, in order, in a goroutine that exists
// only while there are any. A callback that blocks delays that goroutine, never the
// actor.
type notices struct {
	onTransition func(Transition)
	logger       *slog.Logger
	lease        string
	queue        queue
	dropped      int    // since the last notice that was put; used by the actor only
	failure      string // of the last attempt that was logged; used by the queue only
}

// maxNotices bounds what a blocked callback can make the process keep.
const maxNotices = 1024

// newNotices returns nil where nothing listens.
func newNotices(cfg *Config) *notices {
	if cfg.OnTransition == nil && cfg.Logger == nil {
		return nil
	}
	return &notices{onTransition: cfg.OnTransition, logger: cfg.Logger, lease: cfg.lease()}
}

// moved reports a transition. The last one, which says how the ownership ended, is never
// left out.
func (n *notices) moved(t Transition, instance, holder string, sinceRenewal time.Duration) {
	final := t.To == StateLost || t.To == StateReleased
	if !final && n.queue.len() >= maxNotices {
		n.dropped++
		return
	}
	dropped := n.dropped
	n.dropped = 0
	n.queue.put(func() {
		if n.logger != nil {
			n.log(t, instance, holder, sinceRenewal, dropped)
		}
		if n.onTransition != nil {
			n.onTransition(t)
		}
	})
}

// late logs an answer that came after its operation was abandoned, with the count so far:
// a sign of a slow disk.
func (n *notices) late(count uint64) {
	if n == nil || n.logger == nil {
		return
	}
	n.then(func() {
		n.logger.LogAttrs(context.Background(), slog.LevelDebug, "late answer ignored", slog.String("lease", n.lease), slog.Uint64("count", count))
	})
}

// trouble logs an error that causes no transition.
func (n *notices) trouble(what string, err error) {
	if n == nil || n.logger == nil {
		return
	}
	n.then(func() {
		n.logger.LogAttrs(context.Background(), slog.LevelWarn, what, slog.String("lease", n.lease), slog.Any("err", err))
	})
}

// asked logs that the owner is asked to step down.
func (n *notices) asked() {
	if n == nil || n.logger == nil {
		return
	}
	n.then(func() {
		n.logger.LogAttrs(context.Background(), slog.LevelInfo, "asked to step down", slog.String("lease", n.lease))
	})
}

// then runs f after all notices before it: at once if nothing listens.
func (n *notices) then(f func()) {
	if n == nil {
		f()
		return
	}
	n.queue.put(f)
}

func (n *notices) log(t Transition, instance, holder string, sinceRenewal time.Duration, dropped int) {
	attrs := []slog.Attr{
		slog.String("lease", n.lease), slog.String("instance", instance),
		slog.String("from", string(t.From)), slog.String("to", string(t.To)),
		slog.String("event", t.Event), slog.String("reason", reason(t.From, event(t.Event))),
		slog.String("holder", holder), slog.Uint64("epoch", t.Epoch),
	}
	if t.From == StateOwner || t.From == StateRenewing {
		attrs = append(attrs, slog.Duration("since_renewal", sinceRenewal))
	}
	if t.Err != nil {
		attrs = append(attrs, slog.Any("err", t.Err))
	}
	if dropped > 0 {
		attrs = append(attrs, slog.Int("dropped_before", dropped))
	}
	n.logger.LogAttrs(context.Background(), n.levelOf(t), "lease "+string(t.To), attrs...)
}

// levelOf is the level of a transition. An attempt that has failed like the one before is
// logged at debug level: a standby that may not acquire the lease keeps trying, and would
// fill the log.
func (n *notices) levelOf(t Transition) slog.Level {
	switch {
	case event(t.Event) == evFailed && t.Err != nil:
		known := n.failure == t.Err.Error()
		n.failure = t.Err.Error()
		if known {
			return slog.LevelDebug
		}
	case t.To == StateEvicting && n.failure != "":
		return slog.LevelDebug // one more attempt
	case t.To != StateAcquiring && t.To != StateEvicting:
		n.failure = ""
	}
	return level(t)
}

// level says how much a transition matters: a heartbeat is noise, a loss is not.
func level(t Transition) slog.Level {
	switch {
	case t.To == StateLost:
		return slog.LevelError
	case t.Err != nil:
		return slog.LevelWarn
	case t.From == StateAcquiring, t.From == StateEvicting, t.To == StateEvicting, t.To == StateReleased:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
