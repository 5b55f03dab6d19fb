package pgstore

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
)

// An attempt that begins from an earlier read of a free lease takes the lease only as it was
// read.
func TestAcquireFromAnEarlierRead(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	key := uuid.NewString()
	s, other := New(db, key), New(open(t, shared(t).DSN()), key)
	sees := func() {
		t.Helper()
		if view, err := s.Look(t.Context()); err != nil || !view.Free() {
			t.Fatalf("%+v, %v", view, err)
		}
	}
	take := func(s owner.Store) owner.Acquisition {
		t.Helper()
		acq, err := s.Acquire(t.Context(), claim(time.Minute))
		must(t, err)
		return acq
	}
	sees()
	first := take(other) // the row is made
	must(t, first.Lease.Release(t.Context()))
	second := take(s)
	if second.Lease == nil || second.Holder.Epoch <= first.Holder.Epoch {
		t.Fatalf("after epoch %d: %+v", first.Holder.Epoch, second)
	}
	must(t, second.Lease.Release(t.Context()))
	sees()
	third := take(other)
	if acq := take(s); acq.Lease != nil || acq.Holder.InstanceID != third.Holder.InstanceID {
		t.Fatalf("while another owns: %+v", acq)
	}
	must(t, third.Lease.Release(t.Context()))
	sees()
	must(t, take(other).Lease.Release(t.Context())) // it is free again, and another beat
	if acq := take(s); acq.Lease == nil || acq.Holder.Epoch <= third.Holder.Epoch {
		t.Fatalf("after others have owned: %+v", acq)
	}
}
