package main

import "time"

// The configuration of all peers. etcd counts a TTL in seconds, and with its
// default heartbeat grants no less than two; client-go's record holds seconds, too.
const (
	ttl = 3 * time.Second

	// client-go's core components use 15, 10 and 2 seconds.
	renewDeadline = ttl * 10 / 15
	retryPeriod   = ttl * 2 / 15
	// For each request, as resourcelock.NewFromKubeconfig sets it.
	requestTimeout = max(time.Second, renewDeadline/2)

	// How often a bare TryLockContext tries.
	lockInterval = 100 * time.Millisecond

	// How often a process is asked whether it owns, where that is observed.
	askEvery = 500 * time.Microsecond

	// How long a store hangs at most, and how long an answer that does not come is
	// waited for.
	patience = 2 * ttl

	// From the moment at which a process is a standby to the next event, so that it has
	// begun to wait; and how much longer at random: where timeouts decide, a TTL, so that
	// they meet at any phase.
	settle     = 300 * time.Millisecond
	shortPhase = 100 * time.Millisecond
	longPhase  = ttl

	// For how long a process does nothing but ask, around a stop.
	busy = 100 * time.Millisecond

	// The time between renewals, where their cost is measured; and between rounds, in
	// which everything that a round leaves behind ends.
	renewEvery = time.Millisecond
	roundEvery = 30 * time.Millisecond

	// A trial that takes longer than this hangs.
	trialLimit = time.Minute
)
