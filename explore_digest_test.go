package owner

import "github.com/ownerlease/owner/internal/explore"

// Key digests all on which the future of the world depends.
func (w *simWorld) Key() uint64 {
	h := explore.NewHash()
	w.k.Sum(h)
	h.Int(w.epoch)
	h.Int(bits(w.ticked, w.unmended))
	h.Int(uint64(w.turns))
	if w.last.inside() {
		h.Bytes([]byte(w.last.name))
	}
	for _, n := range []int{w.crashes, w.failures, w.releases, w.tampers, w.advertises, w.reuses} {
		h.Int(uint64(n))
	}
	for _, i := range w.all {
		i.sum(h)
	}
	return h.Sum64()
}

func (i *simProcess) sum(h *explore.Hash) {
	h.Int(bits(i.begun, i.crashed, i.gone, i.owned, i.freed, i.held, i.mending, i.saw))
	if i.crashed || i.a == nil {
		return
	}
	h.Int(uint64(i.busy))
	h.Int(uint64(i.ids))
	c := &i.a.core
	if i.owned && !i.freed && !c.owns() {
		h.Int(uint64(i.end))
	}
	if i.held {
		h.Int(uint64(c.expiry()))
	}
	if l, ok := i.a.lease.(*fileLease); ok && (!i.gone || i.held || i.busy > 0) {
		h.Int(l.file.Number())
		h.Int(l.alive.Number())
		if i.w.advertising { // a failed one is in no file
			h.Bytes(l.enc.buf)
		}
	}
	if i.gone {
		return
	}
	h.Bytes([]byte(c.state))
	h.Int(bits(c.failed, c.standing, c.pacing.aside, c.missed, c.behind, c.far, c.err != nil, i.a.snap.Load().expired, c.hinted, c.check, c.asked, c.waiting))
	if c.standing {
		h.Int(uint64(c.looked))
		h.Int(uint64(c.backoff))
		h.Int(uint64(c.until))
		h.Int(uint64(c.turn))
		h.Int(uint64(c.freeAt))
	}
	h.Int(uint64(c.issued))
	h.Int(uint64(c.validFrom))
	if c.failed {
		h.Int(uint64(c.failedAt))
	}
	sumOp(h, c, c.pending)
	for _, r := range i.results {
		sumOp(h, c, r.res.op)
		h.Int(r.seen)
	}
	i.files.firstSeens.Range(func(_, v any) bool {
		first := v.(firstSeen)
		h.Bytes([]byte(first.Instance))
		h.Int(uint64(first.Heartbeat))
		h.Int(uint64(first.At))
		return true
	})
}

// sumOp digests an operation. Its number matters only as far as it is the last one's.
func sumOp(h *explore.Hash, c *core, o op) {
	h.Int(uint64(o.kind))
	h.Int(uint64(o.at))
	h.Int(c.lastID - o.id)
	if o.hung != nil {
		h.Bytes([]byte(o.hung.Record.InstanceID))
	}
}

func bits(all ...bool) (n uint64) {
	for i, b := range all {
		if b {
			n |= 1 << i
		}
	}
	return n
}
