package etcdstore

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
)

// watched counts hints.
func watched(t *testing.T, s owner.Store, holder owner.Record) <-chan struct{} {
	t.Helper()
	hints := make(chan struct{}, 1000)
	stop, err := s.Watch(holder, func() {
		select {
		case hints <- struct{}{}:
		default:
		}
	})
	must(t, err)
	t.Cleanup(stop)
	return hints
}

// settled waits until a watch has begun, and returns when it has given its first hints.
func settled(t *testing.T, h hand, hints <-chan struct{}) {
	t.Helper()
	h.put("", string(h.get("").Value), clientv3.WithLease(clientv3.LeaseID(h.get("").Lease)))
	eventually(t, hints, "a hint of what was put")
	for len(hints) > 0 {
		<-hints
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	for name, tamper := range tamperings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hand{t, c, "/" + uuid.NewString()}
			acq := acquire(t, New(c, h.key), time.Minute)
			s := New(c, h.key) // another instance's
			hints := watched(t, s, look(t, s).Holder)
			settled(t, h, hints)
			tamper(h)
			eventually(t, hints, "a hint")
			must(t, acq.Lease.Release(context.Background()))
		})
	}
}

// A change between the last read and the watch is a hint, whether the read was an
// acquisition or a Look, and whichever instance has read since.
func TestHintsOfBefore(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	for _, after := range []string{"an acquisition", "an acquisition, and another's read", "a read", "a read of a free lease"} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			h := hand{t, c, "/" + uuid.NewString()}
			s := New(c, h.key)
			var holder owner.Record
			if after != "a read of a free lease" {
				holder = acquire(t, s, time.Minute).Holder
			} else {
				look(t, s)
				acquire(t, New(c, h.key), time.Minute)
			}
			if after == "a read" {
				s = New(c, h.key)
				look(t, s)
			}
			h.delete("")
			if after == "an acquisition, and another's read" {
				look(t, s)
			}
			eventually(t, watched(t, s, holder), "a hint")
		})
	}
}

// A watch gives no hints of neighbouring leases, nor without a change.
func TestNoHints(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	h := hand{t, c, "/k"}
	s := New(c, h.key)
	acq := acquire(t, s, time.Minute)
	hints := watched(t, s, acq.Holder)
	h.put(".al", "between the two")
	h.put(aliveSuffix+"s", "beyond")
	acquire(t, New(c, "/k-1"), time.Minute)
	h.delete(".al")
	// All of that has come before this.
	h.delete("")
	eventually(t, hints, "a hint")
	if n := len(hints); n > 0 || keys(t, c, h.key) != 3 {
		t.Errorf("%d hints of what does not concern the lease", n+1)
	}
}

// A watch that was cut off while the changes that it missed were compacted gives a hint,
// and continues.
func TestHintsAfterCompaction(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	own := srv.Client(t)
	c, line := through(t, srv)
	h := hand{t, own, "/k"}
	s := New(c, h.key)
	acq := acquire(t, s, time.Minute)
	hints := watched(t, s, acq.Holder)
	settled(t, h, hints)
	line.cut(true)
	h.delete("")
	resp, err := own.Put(t.Context(), "/other", "")
	must(t, err)
	_, err = own.Compact(t.Context(), resp.Header.Revision)
	must(t, err)
	line.cut(false)
	eventually(t, hints, "a hint after the compaction")
	h.delete(aliveSuffix)
	for {
		eventually(t, hints, "a hint after that")
		if look(t, s).Free() {
			break
		}
	}
}

// A watch that would begin at a compacted revision begins at the present one.
func TestHintsOfCompacted(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	h := hand{t, c, "/k"}
	s := New(c, h.key)
	acq := acquire(t, s, time.Minute)
	h.delete("")
	resp, err := c.Put(t.Context(), "/other", "")
	must(t, err)
	_, err = c.Compact(t.Context(), resp.Header.Revision)
	must(t, err)
	eventually(t, watched(t, s, acq.Holder), "a hint")
}

func TestHintsAfterRestart(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	c := srv.Client(t)
	h := hand{t, c, "/k"}
	s := New(c, h.key)
	acq := acquire(t, s, time.Minute)
	hints := watched(t, s, acq.Holder)
	settled(t, h, hints)
	srv.Stop()
	srv.Start()
	for err := error(owner.ErrUnavailable); err != nil; { // until the client has reached it again
		_, err = c.Get(t.Context(), h.key)
	}
	h.delete("")
	eventually(t, hints, "a hint after the restart")
}

// All leases of a client share a stream for their watches, and one for their keep-alives.
func TestSharedStreams(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	own := srv.Client(t)
	c, line := through(t, srv)
	for range 10 {
		h := hand{t, own, "/" + uuid.NewString()}
		s := New(c, h.key)
		acq := acquire(t, s, time.Minute)
		hints := watched(t, s, acq.Holder)
		must(t, acq.Lease.Renew(t.Context(), s.Now()))
		h.delete("")
		eventually(t, hints, "a hint")
		t.Cleanup(func() { must(t, acq.Lease.Release(context.Background())) })
	}
	line.mu.Lock()
	defer line.mu.Unlock()
	if line.streams != 1 || len(line.watches) != 1 {
		t.Errorf("%d streams for keep-alives, %d for watches", line.streams, len(line.watches))
	}
	if line.leaderless > 0 {
		t.Errorf("%d requests and streams require no leader", line.leaderless)
	}
}

// An owner and a follower leave nothing behind: neither when they have been released,
// nor when the client was closed under them.
func TestNoLeak(t *testing.T) {
	srv := etcdtest.Start(t)
	server := goleak.IgnoreCurrent() // what reads its log
	for _, closed := range []bool{false, false, true} {
		c := srv.Client(t)
		short := func(cfg *owner.Config) { cfg.TTL = 3 * time.Second }
		first, second := join(t, t.Context(), New(c, "/k"), short), join(t, t.Context(), New(c, "/k"), short)
		if closed {
			must(t, c.Close())
			<-first.Lost()
		}
		_ = first.Release()
		_ = second.Release()
		<-first.Done()
		<-second.Done()
		if !closed {
			must(t, c.Close())
		}
		goleak.VerifyNone(t, server)
	}
}
