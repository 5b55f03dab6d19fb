package ownertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// Peer has the suite use two store values for one lease, as two processes do: peer returns
// another store for the lease of s, which newStore has made, with as little in common with
// it as possible. Without Peer, all that contend for a lease in the suite share the one
// store value, so that hints, for one, may stay inside of the process.
func Peer(peer func(t *testing.T, s owner.Store) owner.Store) Option {
	return func(s *suite) { s.peer = peer }
}

// LostAnswers has the suite test what comes of an acquisition whose answer is lost. The
// function gets a store that newStore has made. From then on, until restore is called, the
// writes by which Acquire makes an instance the owner are applied, and their answers lost:
// as where the connection breaks behind the request. Other requests of that store, such as
// those by which it gives back what it may have acquired, have to be answered.
func LostAnswers(lose func(t *testing.T, s owner.Store) (restore func())) Option {
	return func(s *suite) { s.loseAnswers = lose }
}

// NoHints is for a store that gives no hints: what tests them is skipped, and not waited
// for. Standbys of such a store poll it, and take over later.
func NoHints() Option { return func(s *suite) { s.noHints = true } }

// peerOf returns a store for the same lease, as of another process, or skips the test.
func (c *check) peerOf() owner.Store {
	c.Helper()
	if c.peer == nil {
		c.Skip("the suite is not given a Peer")
	}
	return c.peer(c.T, c.made)
}

// What one process does, another sees; and it gets hints of it.
func peers(c *check) {
	other := c.peerOf()
	with := &check{T: c.T, suite: c.suite, store: other}
	h := c.take(long)
	with.owned(h)
	with.refused(h)
	if c.noHints {
		c.must("Release", h.release())
		c.must("Release", with.take(long).release())
		return
	}
	w := with.watch(h.Holder)
	w.settle()
	h.advertised(map[string]string{"there": "is more"})
	w.hinted("an advertisement by another process")
	w.settle()
	c.must("Release", h.release())
	w.hinted("a release by another process")
	w.stop()
	next := with.take(long)
	if next.Holder.Epoch <= h.Holder.Epoch {
		c.Errorf("the epoch is %d, and was %d before", next.Holder.Epoch, h.Holder.Epoch)
	}
	c.owned(next)
}

// An acquisition whose answer is lost has won, or it has failed and is given back: it does
// not keep others waiting for its TTL.
func lostAnswer(c *check) {
	if c.loseAnswers == nil {
		c.Skip("the suite is given no LostAnswers")
	}
	restore := c.loseAnswers(c.T, c.made)
	rec := claim(long)
	var acq owner.Acquisition
	var err error
	c.returns("Acquire, whose answer is lost", func() { acq, err = c.store.Acquire(context.Background(), rec) })
	restore()
	switch {
	case err == nil && acq.Lease == nil:
		c.Fatalf("Acquire, whose answer is lost, names %s as the owner of a lease that is free", acq.Holder.InstanceID)
	case err == nil:
		h := c.won(acq, rec.TTL)
		c.owned(h)
		c.refused(h)
		c.must("Renew", h.renew())
		c.must("Release", h.release())
	case !errors.Is(err, owner.ErrUnavailable):
		c.Errorf("Acquire, whose answer is lost: %v, want ErrUnavailable", err)
	}
	next := claim(long)
	for deadline := time.Now().Add(min(c.patience, long/2)); ; time.Sleep(time.Millisecond) {
		h, holder := c.attempt(next)
		if h != nil {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("an acquisition whose answer was lost is not given back: %s keeps others waiting", holder.InstanceID)
		}
	}
}
