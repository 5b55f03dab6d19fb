package pgstore

import (
	"context"
	"flag"
	"math/rand/v2"
	"time"

	"github.com/ownerlease/owner/internal/contend"
	"github.com/ownerlease/owner/internal/pgtest"
)

var stormLength = flag.Duration("storm", 8*time.Second, "how long the storm lasts")

// All faults of the server, clients and rows, at any time.
func storm(tr *trial) {
	for range 5 {
		tr.Contend()
	}
	heal := func() {
		for _, c := range tr.Contenders {
			c.Link.Heal()
		}
	}
	tr.Storm(*stormLength, heal,
		contend.Lane{Pause: 2 * tr.TTL, Turn: tr.hurtServer},
		contend.Lane{Pause: tr.TTL, Turn: tr.HurtLink(of((*pgtest.Proxy).Mute), of((*pgtest.Proxy).CutThose))},
		contend.Lane{Pause: 2 * tr.TTL, Turn: tr.hurtOwner})
}

func of(harm func(*pgtest.Proxy)) func(link) { return func(l link) { harm(l.Proxy) } }

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

// hurtOwner takes the lease away from its owner, or ends all its sessions.
func (tr *trial) hurtOwner(pause func()) {
	pause()
	c := tr.Owning()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(tr.Context(), tr.TTL)
	defer cancel()
	if rand.N(2) == 0 {
		_, _ = Revoke(ctx, c.Link.db, tr.Key)
		return
	}
	_, _ = c.Link.db.pool.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name LIKE $1", tr.Key+"/%")
}
