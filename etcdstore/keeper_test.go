package etcdstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// An answer is to the request that has waited longest: a later one may have been sent after
// the moment that its lease is to last from.
func TestAnswersInOrder(t *testing.T) {
	st := &stream{ctx: context.Background(), more: make(chan struct{}, 1), sent: map[clientv3.LeaseID][]*request{}}
	first, second, other := st.ask(1), st.ask(1), st.ask(2)
	st.take()
	told := func(r *request) any {
		select {
		case err := <-r.answer:
			return err
		default:
			return "nothing"
		}
	}
	if !other.silent() {
		t.Error("answers before there were any")
	}
	st.answered(&etcdserverpb.LeaseKeepAliveResponse{ID: 1, TTL: 10})
	if a, b, c := told(first), told(second), told(other); a != nil || b != "nothing" || c != "nothing" {
		t.Errorf("after one answer: %v, %v, %v", a, b, c)
	}
	if other.silent() {
		t.Error("another's answer does not count as a sign of life")
	}
	st.answered(&etcdserverpb.LeaseKeepAliveResponse{ID: 1, TTL: 0})
	st.answered(&etcdserverpb.LeaseKeepAliveResponse{ID: 3, TTL: 10}) // no request asked for it
	if b, c := told(second), told(other); b != rpctypes.ErrLeaseNotFound || c != "nothing" {
		t.Errorf("after two answers: %v, %v", b, c)
	}
	if len(st.sent) != 1 {
		t.Errorf("it still waits for %v", st.sent)
	}
}

// The end of a stream reaches all requests that wait, and affects no others.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	c, line := through(t, etcdtest.Start(t))
	line.hang(1)
	st := newStream(ownRoute(c))
	asked := st.ask(1)
	broken := errors.New("broken")
	st.end(broken)
	if err := <-asked.answer; err != broken {
		t.Error(err)
	}
	if st.ask(1) != nil {
		t.Error("a stream that has ended takes requests")
	}
}

// The stream lasts as long as there are leases to keep.
func TestStreamOfTheLast(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	var all []owner.Acquisition
	for range 3 {
		s := New(c, "/"+uuid.NewString())
		acq := acquire(t, s, time.Minute)
		must(t, acq.Lease.Renew(t.Context(), s.Now()))
		all = append(all, acq)
	}
	k := all[0].Lease.(*lease).keeper
	for _, acq := range all {
		if acq.Lease.(*lease).keeper != k || k.streams[""].ctx.Err() != nil {
			t.Error("a lease has no stream, or a separate one")
		}
		must(t, acq.Lease.Release(context.Background()))
	}
	keepers.Lock()
	defer keepers.Unlock()
	if _, kept := keepers.of[c]; kept || k.streams[""].ctx.Err() == nil {
		t.Error("the stream outlives the last lease")
	}
}
