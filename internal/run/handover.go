package run

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
)

// A ReplaceError says why the present owner was not asked to step down. The wait for the
// lease continues.
type ReplaceError struct{ Err error }

func (e *ReplaceError) Error() string {
	return fmt.Sprintf("cannot ask the present owner to step down, and waits until it ends: %v", e.Err)
}
func (e *ReplaceError) Unwrap() error { return e.Err }

// steppedDown returns the outcome of a command that was ended because another instance
// asks for the lease: that TERM has ended it is no failure.
func steppedDown(end ending) outcome {
	const byTERM = 128 + int(syscall.SIGTERM)
	switch {
	case end.signal == syscall.SIGTERM || end.code == byTERM:
		return outcome{asked: true}
	case end.signal != 0:
		return outcome{code: end.code, err: &SignalError{end.signal}, asked: true}
	}
	return outcome{code: end.code, asked: true}
}

// replace is owner.Campaign, and asks the present owner once to step down for this
// process, when it is a standby.
func (o *Options) replace(ctx context.Context, cfg owner.Config) (*owner.Owner, error) {
	cfg.Standby = true
	own, err := o.joinReplacing(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if id := own.StandbyID(); id != "" {
		err := owner.RequestHandover(ctx, cfg, id)
		// Without an owner, or as the owner by now, there is none to be asked.
		if err != nil && ctx.Err() == nil && !errors.Is(err, owner.ErrNoHolder) && !own.IsOwner() && o.Warn != nil {
			o.Warn(&ReplaceError{err})
		}
	}
	select {
	case <-own.Elected():
	case <-ctx.Done():
	case <-own.Done():
	}
	return own, nil
}

// joinReplacing joins; a store that does not answer is asked again.
func (o *Options) joinReplacing(ctx context.Context, cfg owner.Config) (*owner.Owner, error) {
	const shortest, longest = 100 * time.Millisecond, 2 * time.Second
	for pause := shortest; ; pause = min(2*pause, longest) {
		own, err := owner.Join(ctx, cfg)
		if err == nil || !errors.Is(err, owner.ErrUnavailable) {
			return own, err
		}
		if o.Warn != nil && pause == shortest {
			o.Warn(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
