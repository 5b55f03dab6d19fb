package pgstore

import (
	"context"
	"sync"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/witness"
)

// A watch gives hints of one lease.
type watch struct {
	store  *store
	holder string
	ttl    time.Duration // of the holder, 0 if there was none

	mu   sync.Mutex
	hint func() // nil once it has ended
	face face   // what the last poll has shown
	free bool   // it was told that the lease is free
}

// A face is what a follower is to see of a lease.
type face struct {
	known, deaf, held, revoked, handover bool
	instance, record, successor          string
}

// Watch: see owner.Store. Acquisitions, releases, advertisements, requests to step down and
// revocations are notifications. Another's lease is polled as well, some twenty times in its
// TTL, so that its expiry counts from soon after its last renewal: see poll. An error says
// that the notifications do not arrive.
func (s *store) Watch(holder owner.Record, hint func()) (stop func(), err error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	w := &watch{store: s, holder: holder.InstanceID, ttl: holder.TTL, hint: hint}
	unwatch := s.witness(holder.InstanceID) // first, as the rest may take a moment
	err = s.db.news.add(w)
	return func() {
		w.end()
		unwatch()
		s.db.news.remove(w)
	}, err
}

// witness releases the lease of this instance as soon as its process has died, if that is on
// this machine. The release names the instance, so that it harms no other however late it
// is applied.
func (s *store) witness(instance string) (stop func()) {
	last := s.holds()
	if instance == "" || last.instance != instance {
		return func() {}
	}
	stop, _ = witness.Watch(last.process, func() {
		s.db.later(func(ctx context.Context) {
			_, _ = s.release(ctx, readTimeout, instance, "") // or it expires
		})
	})
	return stop
}

func (w *watch) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hint != nil {
		w.hint()
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hint = nil
}

// observe takes what a poll has shown, and gives a hint of what is new. The first poll without
// notifications gives one in any case: what it shows may be newer than what the caller has
// read, and nothing else tells of that.
func (w *watch) observe(r *row) {
	free, deaf := w.store.observe(r) == 0, w.store.db.news.isDeaf()
	is := face{true, deaf, r.held, r.revoked, r.handover, r.instance, r.record, r.successor}
	w.mu.Lock()
	news := w.face != is && (w.face.known || deaf) || free && !w.free
	w.face, w.free = is, free
	w.mu.Unlock()
	if news {
		w.tell()
	}
}
