package run

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/ownerlease/owner"
)

// The pauses between attempts: from about the first to about the last.
const (
	shortPause = 40 * time.Millisecond
	longPause  = 160 * time.Millisecond
)

// campaign joins again and again until this instance owns the lease. When ctx
// ends first, it returns the follower that knows the holder, if it got one.
func campaign(ctx context.Context, cfg owner.Config) (*owner.Owner, error) {
	var follower *owner.Owner
	for pause := shortPause; ; pause = min(pause*5/4, longPause) {
		o, err := owner.Join(ctx, cfg)
		if err != nil {
			return follower, err
		}
		if o.IsOwner() {
			return o, nil
		}
		follower = o
		// Those who wait for the same lease must not try in step.
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return follower, context.Cause(ctx)
		}
	}
}
