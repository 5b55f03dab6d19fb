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
}

func (w *warner) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo && w.warn != nil && !w.over.Load()
}

func (w *warner) Handle(_ context.Context, r slog.Record) error {
	event, err := "", fmt.Errorf("still waiting: %s", r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "event" {
			event = a.Value.String()
		}
		if cause, ok := a.Value.Any().(error); ok && a.Key == "err" {
			err = fmt.Errorf("still waiting: %w", cause)
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if event == "refused" { // it is a standby, and no error has come so far
		w.stood, w.last = true, ""
	}
	if r.Level >= slog.LevelWarn && (w.stood || event == "") && err.Error() != w.last {
		w.last = err.Error()
		w.warn(err)
	}
	return nil
}

func (w *warner) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w *warner) WithGroup(string) slog.Handler      { return w }
