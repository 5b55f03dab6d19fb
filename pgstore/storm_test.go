package pgstore

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

var stormLength = flag.Duration("storm", 8*time.Second, "how long the storm lasts")

// All faults of the server, clients and rows, at any time, with owners that own shortly
// and often.
func storm(tr *trial) {
	tr.stormy = true
	for range 5 {
		tr.contend()
	}
	tr.owner()
	ctx, end := context.WithTimeout(tr.Context(), *stormLength)
	defer end()
	var lanes sync.WaitGroup
	lane := func(pause time.Duration, turn func(pause func())) {
		lanes.Go(func() {
			for ctx.Err() == nil {
				turn(func() { sleep(ctx, rand.N(pause)) })
			}
		})
	}
	tr.disturb(func() {
		lane(tr.ttl/8, tr.nag)
		lane(2*tr.ttl, tr.hurtServer)
		lane(tr.ttl, tr.hurtClient)
		lane(2*tr.ttl, tr.hurtOwner)
		lanes.Wait()
		for _, c := range tr.contenders {
			c.net.Heal()
		}
	})
	tr.settles()
}

// nag makes the owner release, after long or after short.
func (tr *trial) nag(pause func()) {
	for range oneOf([]int{1, 16}) {
		pause()
	}
	for _, c := range tr.contenders {
		select {
		case c.yield <- make(chan time.Duration, 1):
		default:
		}
	}
}

func (tr *trial) hurtServer(pause func()) {
	pause()
	if rand.N(2) == 0 {
		tr.server.Kill()
		pause()
		tr.server.Restart(tr)
		return
	}
	tr.server.Stop()
	pause()
	tr.server.Cont()
}

func (tr *trial) hurtClient(pause func()) {
	net := oneOf(tr.contenders).net
	if i := slices.IndexFunc(tr.contenders, (*contender).owns); i >= 0 && rand.N(2) == 0 {
		net = tr.contenders[i].net
	}
	switch rand.N(5) {
	case 0:
		net.Cut()
	case 1:
		net.Mute()
	case 2:
		net.Deafen()
	case 3:
		net.Delay(rand.N(tr.ttl / 20))
	case 4:
		net.CutThose()
	}
	for range oneOf([]int{1, 4}) {
		pause()
	}
	if rand.N(2) == 0 {
		net.Break()
	}
	net.Heal()
	pause()
}

// hurtOwner takes the lease away from its owner, or ends all its sessions.
func (tr *trial) hurtOwner(pause func()) {
	pause()
	i := slices.IndexFunc(tr.contenders, (*contender).owns)
	if i < 0 {
		return
	}
	c := tr.contenders[i]
	ctx, cancel := context.WithTimeout(tr.Context(), tr.ttl)
	defer cancel()
	if rand.N(2) == 0 {
		_, _ = Revoke(ctx, c.db, tr.key)
		return
	}
	_, _ = c.db.pool.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name LIKE $1", tr.key+"/%")
}

func oneOf[T any](all []T) T { return all[rand.N(len(all))] }
