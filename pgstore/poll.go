package pgstore

import (
	"context"
	"time"
)

// The pauses between polls of one process, for all leases that it watches.
const (
	minPoll = 5 * time.Millisecond
	maxPoll = 100 * time.Millisecond
	// deafPoll is the longest where there are no notifications.
	deafPoll = 20 * time.Millisecond
)

// poll reads the leases that are watched again and again. A standby counts the holder's TTL
// from the read that has shown the last renewal, and so takes over late by as much as it
// was late to read it. There is no notification of renewals, which would cost each server
// more than the polls.
//
// An owner's own lease is not polled, as its renewals read it, nor one that is not owned,
// unless there are no notifications.
func (n *news) poll(ctx context.Context, more <-chan struct{}) {
	for {
		watches, pause := n.due()
		if len(watches) == 0 {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return
			}
		}
		n.pollOnce(ctx, watches)
		if !sleep(ctx, pause) {
			return
		}
	}
}

// due returns the watches whose leases are to be read, and the pause after that.
func (n *news) due() (watches []*watch, pause time.Duration) {
	all := n.of(func(string) bool { return true })
	deaf := n.isDeaf()
	pause = maxPoll
	if deaf {
		pause = deafPoll
	}
	for _, w := range all {
		if deaf || w.ttl > 0 && !n.db.keeper.keeps(w.store.key, w.holder) {
			watches = append(watches, w)
			if w.ttl > 0 {
				pause = min(pause, max(w.ttl/20, minPoll))
			}
		}
	}
	return watches, pause
}

// pollOnce reads the leases once. A failure is for the next poll: the caller's own reads
// say what it is.
func (n *news) pollOnce(ctx context.Context, watches []*watch) {
	byKey := map[string][]*watch{}
	var keys []string
	for _, w := range watches {
		if byKey[w.store.key] == nil {
			keys = append(keys, w.store.key)
		}
		byKey[w.store.key] = append(byKey[w.store.key], w)
	}
	rows, err := n.db.read(ctx, readTimeout, keys...)
	if err != nil {
		return
	}
	for i := range rows {
		for _, w := range byKey[rows[i].key] {
			w.observe(&rows[i])
		}
	}
}
