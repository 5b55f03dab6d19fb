package main

import (
	"context"
	"errors"

	"github.com/gofrs/flock"
)

// flockPeer is a bare lock on a file: waited for in the kernel, or tried in a loop.
type flockPeer struct {
	lock  *flock.Flock
	tries bool
}

func openFlock(s spec) *flockPeer {
	return &flockPeer{lock: flock.New(s.Name), tries: s.Peer == peerTryLock}
}

func (p *flockPeer) campaign(ctx context.Context) error {
	if !p.tries {
		return p.lock.Lock()
	}
	locked, err := p.lock.TryLockContext(ctx, lockInterval)
	if err == nil && !locked {
		err = errors.New("not locked, without an error")
	}
	return err
}

func (p *flockPeer) release(context.Context) error { return p.lock.Unlock() }

func (p *flockPeer) views() []view { return []view{{viewLocked, p.lock.Locked}} }
