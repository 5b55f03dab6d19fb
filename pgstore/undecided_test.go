package pgstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
)

// acquires reports whether a request acquires the lease with this key.
func acquires(key string) func(request []byte) bool {
	return func(request []byte) bool {
		return bytes.Contains(request, []byte(key)) &&
			(bytes.Contains(request, []byte(sqlAcquireNew)) || bytes.Contains(request, []byte(sqlAcquireRow)))
	}
}

// An acquisition that is committed, and whose answer is lost, is no ownership. It is sent
// once, and given back, so that another can own at once.
func TestAcquireUndecided(t *testing.T) {
	t.Parallel()
	direct := newDB(t, shared(t).DSN())
	for _, owned := range []bool{false, true} {
		t.Run(fmt.Sprint("owned before: ", owned), func(t *testing.T) {
			t.Parallel()
			key := uuid.NewString()
			if owned {
				acq, err := New(direct, key).Acquire(t.Context(), claim(time.Minute))
				must(t, err)
				must(t, acq.Lease.Release(t.Context()))
			}
			net := shared(t).Proxy(t)
			s := New(open(t, net.DSN()), key)
			var sent atomic.Int64
			net.LoseAnswers(func(request []byte) bool { return acquires(key)(request) && sent.Add(1) > 0 })
			lost := claim(time.Minute)
			acq, err := s.Acquire(t.Context(), lost)
			if acq.Lease != nil || !errors.Is(err, owner.ErrUnavailable) || sent.Load() != 1 {
				t.Errorf("sent %d times: %+v, %v", sent.Load(), acq, err)
			}
			rows, err := direct.read(t.Context(), readTimeout, key)
			must(t, err)
			if r := rows[0]; r.instance != lost.InstanceID || r.held {
				t.Errorf("it was to be committed, and released: %+v", r)
			}
			acq, err = New(direct, key).Acquire(t.Context(), claim(time.Minute))
			if err != nil || acq.Lease == nil || acq.Holder.Epoch <= rows[0].epoch {
				t.Errorf("another, after the epoch %d: %+v, %v", rows[0].epoch, acq, err)
			}
		})
	}
}

// Of all that acquire, every second one is not answered. No lease is blocked for its TTL by
// one that has gone, or is trying again.
func acquisitionsUnanswered(tr *trial) {
	acquires := acquires(tr.Key)
	var lost atomic.Int64
	for range 3 {
		net := tr.server.Proxy(tr.T)
		net.LoseAnswers(func(request []byte) bool {
			if !acquires(request) || rand.N(2) == 0 {
				return false
			}
			lost.Add(1)
			return true
		})
		tr.ContendBy(tr.connect(net))
	}
	for n := 0; n < 10 || lost.Load() < 5; n++ {
		tr.Owner()
		tr.Looked(tr.Contenders...)
		began := tr.Owner().Releases()
		tr.Owner()
		if took := tr.Now() - began; took > tr.TTL/2 {
			tr.Errorf("free for %v", took)
		}
	}
}
