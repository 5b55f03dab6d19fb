package etcdstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func requestOf(t *testing.T, s owner.Store, holder, successor string) error {
	t.Helper()
	return s.(owner.HandoverStore).RequestHandover(t.Context(), holder, successor)
}

// A request costs nothing that stays: it goes away with the ownership, however that ends.
func TestHandoverRequestGoesAway(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Defaults...).Client(t)
	for name, end := range map[string]func(acq owner.Acquisition){
		"by a release": func(acq owner.Acquisition) { must(t, acq.Lease.Release(context.Background())) },
		"by an expiry": func(owner.Acquisition) {},
	} {
		s := New(c, "/"+uuid.NewString()).(*store)
		acq := acquire(t, s, 2*time.Second)
		must(t, requestOf(t, s, acq.Holder.InstanceID, ""))
		if n := keys(t, c, s.key); n != 3 {
			t.Errorf("%s: %d keys with a request", name, n)
		}
		end(acq)
		for keys(t, c, s.key) != 0 { // the test's time limit ends this
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// What another program has put in the request's place asks no owner, is left as it is, and
// costs no ownership.
func TestHandoverRequestForeign(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	for _, value := range []string{"", "17", "{}", `{"holder":"HOLDER"}`, `{"format":"owner-handover-etcd/2","holder":"HOLDER"}`,
		`{"format":"owner-handover-etcd/1","holder":"HOLDER"` + strings.Repeat(" ", maxRequest) + "}"} {
		s := New(c, "/"+uuid.NewString()).(*store)
		acq := acquire(t, s, time.Minute)
		value = strings.ReplaceAll(value, "HOLDER", acq.Holder.InstanceID)
		put, err := c.Put(t.Context(), s.handover, value)
		must(t, err)
		if v := look(t, s); v.HandoverRequested || v.Holder.InstanceID != acq.Holder.InstanceID {
			t.Errorf("%q counts: %+v", value, v)
		}
		if err := requestOf(t, s, acq.Holder.InstanceID, ""); !errors.Is(err, owner.ErrInvalidConfig) || !strings.Contains(err.Error(), s.handover) {
			t.Errorf("%q: %v", value, err)
		}
		must(t, acq.Lease.Renew(t.Context(), s.Now()))
		must(t, acq.Lease.Release(context.Background()))
		acq = acquire(t, s, time.Minute)
		got, err := c.Get(t.Context(), s.handover)
		must(t, err)
		if len(got.Kvs) != 1 || got.Kvs[0].ModRevision != put.Header.Revision {
			t.Errorf("%q is not left alone", value)
		}
		must(t, acq.Lease.Release(context.Background()))
	}
}

// A request to a revoked owner is refused, and one by a user without rights says which.
func TestHandoverRequestRefused(t *testing.T) {
	t.Parallel()
	srv := guarded(t, map[string]func(*clientv3.Client, string) error{
		"whole":  right("/k", "/k"+aliveSuffix+"\x00", readWrite),
		"reader": right("/k", "/l", clientv3.PermissionType(clientv3.PermRead)),
	})
	s := New(srv.Client(t, as("whole")), "/k").(*store)
	acq := acquire(t, s, time.Minute)
	says(t, "a reader", requestOf(t, New(srv.Client(t, as("reader")), "/k"), acq.Holder.InstanceID, ""), nil, "readwrite", "/k")
	must(t, requestOf(t, s, acq.Holder.InstanceID, ""))
	_, err := s.client.Delete(t.Context(), s.key)
	must(t, err)
	says(t, "a revoked owner", requestOf(t, s, acq.Holder.InstanceID, ""), owner.ErrNoHolder, "revoked")
	must(t, acq.Lease.Release(context.Background()))
}

// Two processes' Owners hand over, with the named one in front of the other.
func TestHandoverToTheNamed(t *testing.T) {
	t.Parallel()
	s := New(etcdtest.Start(t).Client(t), "/k")
	first := join(t, t.Context(), s)
	var standbys []*owner.Owner
	for range 3 {
		standbys = append(standbys, join(t, t.Context(), s, func(c *owner.Config) { c.Standby = true }))
	}
	must(t, owner.RequestHandover(t.Context(), owner.Config{Store: s}, standbys[2].StandbyID()))
	eventually(t, first.HandoverRequested(), "asked")
	if !first.IsOwner() {
		t.Error(first.Check())
	}
	must(t, first.Release())
	for {
		for i, o := range standbys {
			select {
			case <-o.Elected():
				if i != 2 { // on a machine that is slow beyond the head start
					t.Logf("standby %d was quicker than the named one", i)
				}
				return
			default:
			}
		}
		time.Sleep(time.Millisecond)
	}
}
