package etcdstore

import (
	"context"
	"math/rand/v2"

	"github.com/ownerlease/owner/witness"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// witness ends the ownership of this instance as soon as its process has died, if that is on
// this machine. ctx ends with the watch; after stop, nothing begins. The watches of a
// process share what reports the end of another.
//
// It revokes the two etcd leases under which the keys were read. That is safe however late
// it is applied, and however often:
//
//   - Their ids were drawn for this ownership, and are never used for another. A later owner
//     has keys under other ones. A renewal keeps these two alive, and an advertisement puts
//     the keys under them again: so neither makes it another ownership, nor a revocation miss
//     it.
//   - The process that had them has ended. So no code runs that takes the lease for its own,
//     and no instance is left that one key would have to protect until it has stopped.
//   - What that process has sent before, and is applied later, does nothing: a key cannot be
//     put under an etcd lease that is gone.
//
// To delete the keys where they are as they were read would be no safer, and would miss those
// that were put again since.
func (s *store) witness(ctx context.Context, instance string) (stop func()) {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if instance == "" || last.holder != instance {
		return func() {} // another read has shown another holder, and this one is no news
	}
	stop, _ = witness.Watch(last.process, func() { go s.endOwnership(ctx, last.leases) })
	return stop
}

// endOwnership revokes the etcd leases, and tries again while etcd does not answer: they may
// last for long. Where the user may not, they expire.
func (s *store) endOwnership(ctx context.Context, leases []clientv3.LeaseID) {
	for pause := minPause; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		if err := s.revoke(ctx, readPatience, leases...); err == nil || !isPassing(err) {
			return
		}
		sleep(ctx, pause/2+rand.N(pause))
	}
}

// process names this process for witnesses, unless its work is in others.
func (s *store) process() string {
	if s.unwitnessed {
		return ""
	}
	return witness.Self()
}
