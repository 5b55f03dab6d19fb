package owner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"
)

// Campaign waits as a standby until this instance owns the lease. It is Join with
// Standby, and waits for Elected; ctx bounds both the wait and the renewals after it.
//
// Where Join fails with [ErrUnavailable], Campaign tries again; other errors it
// returns. When ctx ends first, it returns its cause, together with the follower, which
// still says who owned the lease last; the follower is nil where Join has not succeeded.
//
// A ctx that Run has given to its work for the same lease is refused with
// [ErrInvalidConfig]: the wait would never end.
func Campaign(ctx context.Context, cfg Config) (*Owner, error) {
	cfg.Standby = true
	if err := cfg.pin(); err != nil {
		return nil, err
	}
	if key := cfg.leaseKey(); key != "" && ctx.Value(runsUnder(key)) != nil {
		return nil, cfg.campaignError(fmt.Errorf("%w: it was called from the work that Run does under this lease, and would wait for ever", ErrInvalidConfig))
	}
	for pause := retryPause(cfg.TTL); ; pause = min(2*pause, cfg.TTL) {
		o, err := Join(ctx, cfg)
		switch {
		case err == nil:
			return o, cfg.awaitElection(ctx, o)
		case ctx.Err() != nil || !errors.Is(err, ErrUnavailable):
			return nil, err
		}
		cfg.warn("joining the lease failed: trying again", err)
		if err := sleep(ctx, jitter(pause)); err != nil {
			return nil, cfg.campaignError(err)
		}
	}
}

// pin keeps a relative path where it leads now: the process can change its folder before the
// next attempt.
func (cfg *Config) pin() error {
	if cfg.LeasePath == "" || cfg.Store != nil {
		return nil
	}
	path, err := filepath.Abs(cfg.LeasePath)
	if err != nil {
		return cfg.joinError(err)
	}
	cfg.LeasePath = path
	return nil
}

// runsUnder is the key of a context that Run has given to its work: the lease's.
type runsUnder string

// leaseKey is the same for two configurations of one lease, "" where that is not known. The
// path is pinned.
func (cfg *Config) leaseKey() string {
	if named, ok := cfg.Store.(fmt.Stringer); ok {
		return named.String()
	}
	if cfg.Store != nil {
		return ""
	}
	return cfg.LeasePath
}

func (cfg *Config) awaitElection(ctx context.Context, o *Owner) error {
	select {
	case <-o.Elected():
	case <-ctx.Done():
	case <-o.Done(): // elected and lost already; otherwise by a bug
	}
	if o.hasOwned() && ctx.Err() == nil {
		return nil
	}
	_ = o.Release() // it may have won in the same moment; otherwise it holds nothing
	return cfg.campaignError(cmp.Or(context.Cause(ctx), o.Check()))
}

func (cfg *Config) campaignError(err error) error {
	return &opError{"campaign for " + cfg.lease(), err}
}

// Run calls work while this instance owns the lease, and returns when work is done: with
// work's error if it has one, otherwise with the cause of ctx's end, or nil.
//
// work gets a context that ends when the ownership or ctx does, and must return
// then. After ctx's end the lease is kept, and renewed, for as long as work takes
// to wind down; it is released when work has returned or panicked; the panic then
// continues. If the lease is lost, work's error does not count: Run waits for it to
// return, and campaigns again, with growing pauses while ownerships end early. So it
// never calls work twice at once, nor while it does not own.
//
// At a [RequestHandover], work's context ends with the cause [ErrHandover]. The lease is
// kept and renewed until work has returned; then it is released, and Run campaigns
// again: when another owns, or a moment later. What work returns then does not count, and
// is logged. A work that is not to be done again has to end ctx.
//
// An error of the first attempt to join is returned, except [ErrUnavailable], which is
// tried again; later ones are tried again, as the disk that has cost the ownership may
// still be out of order. Run within the work of Run on the same lease is refused like
// Campaign there.
func Run(ctx context.Context, cfg Config, work func(ctx context.Context, o *Owner) error) error {
	if err := cfg.pin(); err != nil {
		return err
	}
	var pause time.Duration
	for first := true; ; first = false {
		r := runOnce(ctx, &cfg, work)
		switch {
		case ctx.Err() != nil || r.ending == workDone:
			return cmp.Or(r.err, context.Cause(ctx))
		case r.ending == notJoined && (first || errors.Is(r.err, ErrInvalidConfig)):
			return r.err
		}
		cfg.warn("campaigning again", r.err) // the Owner has logged why the lease was lost
		if r.worked >= cfg.TTL || r.ending == steppedDown {
			pause = 0
		}
		if r.ending == steppedDown {
			if err := cfg.letSucceed(ctx); err != nil {
				return err
			}
			continue
		}
		if err := sleep(ctx, jitter(pause)); err != nil {
			return err
		}
		pause = min(max(2*pause, retryPause(cfg.TTL)), cfg.TTL)
	}
}

// A round is how far runOnce has got.
type round struct {
	ending ending
	worked time.Duration
	err    error // why it has not joined, or work's
}

type ending int

const (
	notJoined ending = iota
	leaseLost
	steppedDown
	workDone
)

// runOnce campaigns, and runs work once. ctx ends only the campaign and the work, not the
// ownership: the lease is kept while the work winds down.
func runOnce(ctx context.Context, cfg *Config, work func(context.Context, *Owner) error) round {
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	keep := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })
	o, err := Campaign(life, *cfg)
	inTime := keep()
	if o != nil {
		// Last of all, also when work panics. After a loss, a successor can own at once.
		defer o.Release()
	}
	switch {
	case !inTime:
		return round{notJoined, 0, context.Cause(ctx)}
	case err != nil:
		return round{notJoined, 0, err}
	case o.Check() != nil:
		return round{leaseLost, 0, nil}
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	working, stop := context.WithCancelCause(context.WithValue(ctx, runsUnder(cfg.leaseKey()), true))
	defer stop(nil)
	defer context.AfterFunc(o.Context(), func() { stop(context.Cause(o.Context())) })()
	asking.Go(func() {
		select {
		case <-o.HandoverRequested():
			stop(ErrHandover)
		case <-working.Done():
		}
	})
	began := time.Now()
	r := round{workDone, 0, work(working, o)}
	r.worked = time.Since(began)
	if context.Cause(working) == ErrHandover {
		r.ending = steppedDown
	}
	if lost := o.Check(); lost != nil && !errors.Is(lost, ErrReleased) { // work may have handed over by itself
		r.ending = leaseLost
	}
	return r
}

func (cfg *Config) warn(what string, err error) {
	if cfg.Logger != nil {
		cfg.Logger.LogAttrs(context.Background(), slog.LevelWarn, what, slog.String("lease", cfg.lease()), slog.Any("err", err))
	}
}

// jitter spreads out processes that wait for the same thing.
func jitter(d time.Duration) time.Duration { return d/2 + time.Duration(rand.Int64N(int64(d)+1)) }
