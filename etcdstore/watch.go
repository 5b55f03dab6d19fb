package etcdstore

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ownerlease/owner"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A lastRead is the last read that found the lease whole or free: what has happened since
// is new to a watch of this holder.
type lastRead struct {
	holder string // an instance's id, "" for none
	rev    int64  // of the reading, 0 where there was none

	process string             // the holder's, see witness.Self; "" where it has no witnesses
	leases  []clientv3.LeaseID // of both its keys
}

func (s *store) saw(r lastRead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.rev > s.last.rev {
		s.last = r
	}
}

// since returns the revision from which on a watch of this holder has news, 0 where that
// is not known: the last read found another holder.
func (s *store) since(holder string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.rev == 0 || s.last.holder != holder {
		return 0
	}
	return s.last.rev + 1
}

// rangeEnd is where the range ends that has the keys, and those in between.
func (s *store) rangeEnd() string { return s.alive + "\x00" }

// Watch: see owner.Store. Each write or deletion of one of the keys is a hint. The watch
// begins where the last read has ended, so that it misses nothing in between.
//
// The watches of a client share one stream, as their contexts carry the same metadata.
func (s *store) Watch(holder owner.Record, hint func()) (stop func(), err error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(s.client.Ctx()))
	w := &watch{store: s, hint: hint}
	go w.run(ctx, s.since(holder.InstanceID))
	unwatch := s.witness(ctx, holder.InstanceID)
	return func() {
		unwatch()
		w.end()
		cancel()
	}, nil
}

type watch struct {
	store *store

	mu   sync.Mutex
	hint func() // nil once it has ended
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

// The pauses between attempts to watch again. While there are no hints, standbys poll the
// lease every second.
const (
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
)

// run watches from rev on, or from now on where rev is 0, and begins again where etcd
// ends the watch: without a leader, after a compaction, when the user's rights have
// changed. A connection that was lost is the client's matter, which resumes.
func (w *watch) run(ctx context.Context, rev int64) {
	told := rev != 0 // this watch cannot have missed anything
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		next, begun := w.follow(ctx, rev, told)
		if begun {
			pause = minPause
		}
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return
		}
		rev, told = next, false
	}
}

// follow watches until the watch ends, and returns from where to continue. It gives a
// hint when the watch has begun, if it may have missed something.
func (w *watch) follow(ctx context.Context, rev int64, told bool) (next int64, begun bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := w.store
	for resp := range s.client.Watch(ctx, s.key, clientv3.WithRange(s.rangeEnd()), clientv3.WithRev(rev), clientv3.WithCreatedNotify()) {
		if resp.CompactRevision != 0 {
			return 0, begun // what was compacted cannot be read: continue from the present
		}
		if resp.Err() != nil {
			break
		}
		begun = true
		if resp.Created && !told || s.concerns(resp.Events) {
			w.tell()
		}
		rev = max(rev, resp.Header.Revision+1)
	}
	return rev, begun
}

// concerns reports whether one of the events is of the lease's keys.
func (s *store) concerns(events []*clientv3.Event) bool {
	for _, e := range events {
		if key := string(e.Kv.Key); key == s.key || key == s.alive || key == s.handover {
			return true
		}
	}
	return false
}
