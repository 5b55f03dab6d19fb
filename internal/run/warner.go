package run

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// A warner passes on what goes wrong while the lease is waited for. After that the
// terminal is COMMAND's.
type warner struct {
	warn func(error)
	over atomic.Bool

	mu    sync.Mutex
	stood bool // it was a standby: an error before that ends the wait
	last  string
	cause error // the last error, without what it was said with; nil since it was a standby
}

// why is the last error of the wait.
func (w *warner) why() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

func (w *warner) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo && !w.over.Load()
}

func (w *warner) Handle(_ context.Context, r slog.Record) error {
	event, cause, err := "", error(nil), fmt.Errorf("still waiting: %s", r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" {
			event = a.Value.String()
		}
		if e, ok := a.Value.Any().(error); ok && a.Key == "err" {
			cause, err = e, fmt.Errorf("still waiting: %w", e)
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if event == "refused" { // it is a standby, and no error has come so far
		w.stood, w.last, w.cause = true, "", nil
	}
	if cause != nil {
		w.cause = cause
	}
	if r.Level >= slog.LevelWarn && w.warn != nil && (w.stood || event == "") && err.Error() != w.last {
		w.last = err.Error()
		w.warn(err)
	}
	return nil
}

func (w *warner) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w *warner) WithGroup(string) slog.Handler      { return w }
