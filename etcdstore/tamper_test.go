package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"github.com/ownerlease/owner/internal/history"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A hand does something to a lease behind its owner's back.
type hand struct {
	t   testing.TB
	c   *clientv3.Client
	key string
}

func (h hand) get(suffix string) *mvccpb.KeyValue {
	h.t.Helper()
	resp, err := h.c.Get(h.t.Context(), h.key+suffix)
	must(h.t, err)
	if len(resp.Kvs) == 0 {
		h.t.Fatalf("there is no key %s", h.key+suffix)
	}
	return resp.Kvs[0]
}

// revision is etcd's present one.
func (h hand) revision() int64 {
	h.t.Helper()
	resp, err := h.c.Get(h.t.Context(), h.key)
	must(h.t, err)
	return resp.Header.Revision
}

func (h hand) delete(suffix string) {
	h.t.Helper()
	_, err := h.c.Delete(h.t.Context(), h.key+suffix)
	must(h.t, err)
}

func (h hand) put(suffix, value string, opts ...clientv3.OpOption) {
	h.t.Helper()
	_, err := h.c.Put(h.t.Context(), h.key+suffix, value, opts...)
	must(h.t, err)
}

func (h hand) revoke(ids ...int64) {
	h.t.Helper()
	for _, id := range ids {
		_, err := h.c.Revoke(h.t.Context(), clientv3.LeaseID(id))
		must(h.t, err)
	}
}

// tamperings are all that a user can do to one of the keys, on purpose or not.
var tamperings = map[string]func(hand){
	"key deleted":         func(h hand) { h.delete("") },
	"alive key deleted":   func(h hand) { h.delete(aliveSuffix) },
	"lease revoked":       func(h hand) { h.revoke(h.get("").Lease) },
	"alive lease revoked": func(h hand) { h.revoke(h.get(aliveSuffix).Lease) },
	"key deleted, put":    func(h hand) { kv := h.get(""); h.delete(""); h.put("", string(kv.Value)) },
	"key put as it was": func(h hand) {
		kv := h.get("")
		h.put("", string(kv.Value), clientv3.WithLease(clientv3.LeaseID(kv.Lease)))
	},
	"key without a lease":   func(h hand) { h.put("", string(h.get("").Value)) },
	"alive without a lease": func(h hand) { h.put(aliveSuffix, string(h.get("").Value)) },
	"rubbish put":           func(h hand) { h.put("", "rubbish") },
	"rubbish put at alive":  func(h hand) { h.put(aliveSuffix, "rubbish") },
}

// A pair of keys that is deleted at once is more than the guarantee covers; the owner
// notices it all the same.
var pairs = map[string]func(hand){
	"both keys deleted": func(h hand) {
		_, err := h.c.Delete(h.t.Context(), h.key, clientv3.WithPrefix())
		must(h.t, err)
	},
	"both leases revoked": func(h hand) { h.revoke(h.get("").Lease, h.get(aliveSuffix).Lease) },
}

// stays returns what a user has put under no etcd lease: it stays until a user deletes
// it.
func (h hand) stays() (values []string) {
	h.t.Helper()
	resp, err := h.c.Get(h.t.Context(), h.key, clientv3.WithPrefix())
	must(h.t, err)
	for _, kv := range resp.Kvs {
		if kv.Lease == 0 {
			values = append(values, string(kv.Value))
		}
	}
	return values
}

func TestRenewAfterTampering(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	for _, set := range []map[string]func(hand){tamperings, pairs} {
		for name, tamper := range set {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := hand{t, c, "/" + uuid.NewString()}
				s := New(c, h.key)
				acq := acquire(t, s, time.Minute)
				tamper(h)
				stays := h.stays()
				for range 2 {
					if err := acq.Lease.Renew(t.Context(), s.Now()); !errors.Is(err, owner.ErrRevoked) || !strings.Contains(err.Error(), h.key) {
						t.Errorf("Renew: %v", err)
					}
				}
				must(t, acq.Lease.Release(context.Background()))
				if now := h.stays(); !slices.Equal(now, stays) || int(keys(t, c, h.key)) != len(stays) {
					t.Errorf("the release leaves %v, and what others have put was %v", now, stays)
				}
			})
		}
	}
}

func TestTakenOver(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	s := New(c, "/k")
	first := acquire(t, s, time.Minute)
	hand{t, c, "/k"}.delete("")
	hand{t, c, "/k"}.delete(aliveSuffix)
	second := acquire(t, New(c, "/k"), time.Minute)
	err := first.Lease.Renew(t.Context(), s.Now())
	if !errors.Is(err, owner.ErrTakenOver) || !strings.Contains(err.Error(), second.Holder.InstanceID) {
		t.Errorf("Renew: %v", err)
	}
	must(t, first.Lease.Release(context.Background()))
	must(t, second.Lease.Renew(t.Context(), s.Now())) // the other's keys and etcd leases are left alone
	must(t, second.Lease.Release(context.Background()))
}

// An etcd lease that ends after the keys were read is noticed by the same renewal.
func TestRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	c, line := through(t, etcdtest.Start(t))
	h := hand{t, c, "/k"}
	s := New(c, h.key)
	acq := acquire(t, s, time.Minute)
	must(t, acq.Lease.Renew(t.Context(), s.Now())) // the stream is open
	revoked := make(chan struct{})
	line.disturb(only("read", once(func(ctx context.Context, _ string, apply func(context.Context) error) error {
		defer close(revoked)
		err := apply(ctx)
		h.revoke(int64(line.granted[1]))
		return err
	})))
	line.sending = func() { <-revoked }
	if err := acq.Lease.Renew(t.Context(), s.Now()); !errors.Is(err, owner.ErrRevoked) {
		t.Errorf("Renew: %v", err)
	}
	must(t, acq.Lease.Release(context.Background()))
}

// An epoch does not change when the key is written to.
func TestEpochStays(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	h := hand{t, c, "/k"}
	acq := acquire(t, New(c, h.key), time.Minute)
	tamperings["key put as it was"](h)
	if e := look(t, New(c, h.key)).Holder.Epoch; e != acq.Holder.Epoch {
		t.Errorf("epoch %d, and it was %d", e, acq.Holder.Epoch)
	}
	must(t, acq.Lease.Release(context.Background()))
}

// An observer asks an Owner all the time whether it owns.
type observer struct {
	t     testing.TB
	o     *owner.Owner
	clock func() time.Duration
	history.Tenure
	owned      chan struct{} // closed when it has been seen to own
	stop, done chan struct{}
}

func observerOf(t testing.TB, s owner.Store, o *owner.Owner, margin time.Duration) *observer {
	w := &observer{t: t, o: o, clock: s.Now, owned: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{})}
	w.Tenure = history.Tenure{Lease: "k", By: fmt.Sprintf("%p", o), Margin: margin, Sought: s.Now()}
	go w.run()
	return w
}

func (w *observer) run() {
	defer close(w.done)
	for ; ; time.Sleep(2 * time.Millisecond) {
		before := w.clock()
		owns := w.o.IsOwner()
		after := w.clock()
		switch {
		case owns && w.Owned == 0:
			w.Owned, w.Instance, w.Epoch = after, w.o.InstanceID(), w.o.Epoch()
			close(w.owned)
			fallthrough
		case owns:
			w.Valid = before
		case w.Owned == 0:
			w.Sought = before
		case w.Over == 0:
			w.Over = after
		}
		select {
		case <-w.stop:
			return
		default:
		}
	}
}

// release releases what it watches.
func (w *observer) release() {
	w.t.Helper()
	freed := w.clock()
	must(w.t, w.o.Release())
	close(w.stop)
	<-w.done
	w.Freed = freed
}

// Whatever a user does to one of the keys, the owner notices it, and no other owns before
// it has released, or its lease has expired: an owner that releases after the loss has a
// successor at once, one that does not has none.
func TestTamperedOwner(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	for name, tamper := range tamperings {
		for _, says := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/says that it has stopped: %v", name, says), func(t *testing.T) {
				t.Parallel()
				h := hand{t, c, "/" + uuid.NewString()}
				tamperedOwner(t, h, tamper, says)
			})
		}
	}
}

func tamperedOwner(t *testing.T, h hand, tamper func(hand), says bool) {
	ttl, margin := 5*time.Second, time.Second
	if says {
		ttl = 30 * time.Second // it is not waited for
	}
	s := New(h.c, h.key)
	short := func(c *owner.Config) { c.TTL, c.SafetyMargin = ttl, margin }
	first := join(t, t.Context(), s, short)
	second := join(t, t.Context(), New(h.c, h.key), short)
	seen := []*observer{observerOf(t, s, first, margin), observerOf(t, s, second, margin)}
	eventually(t, seen[0].owned, "seen to own")
	tamper(h)
	eventually(t, first.Lost(), "lost")
	if err := first.LostErr(); !errors.Is(err, owner.ErrRevoked) {
		t.Errorf("lost by %v", err)
	}
	if says {
		seen[0].release()
	}
	if stays := h.stays(); len(stays) > 0 {
		for keys(t, h.c, h.key) > int64(len(stays)) {
			time.Sleep(time.Millisecond)
		}
		if err := second.Check(); second.IsOwner() || !errors.Is(err, owner.ErrNotOwner) {
			t.Errorf("beside what a hand has put: %v", err)
		}
		_, err := h.c.Delete(t.Context(), h.key, clientv3.WithPrefix())
		must(t, err)
	}
	eventually(t, seen[1].owned, "seen to own")
	if !says {
		seen[0].release()
		seen[0].Freed = 0 // it came too late to matter
	}
	seen[1].release()
	all := history.History{}
	for _, w := range seen {
		all.Tenures = append(all.Tenures, w.Tenure)
	}
	verdict, err := all.Check(time.Hour)
	must(t, err)
	if verdict.Owned != 2 {
		t.Errorf("%d have owned", verdict.Owned)
	}
	for _, v := range verdict.Violations {
		t.Error(v)
	}
}
