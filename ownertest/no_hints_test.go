package ownertest

import (
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// A store without hints passes, and none is waited for. TestBrokenStores has two that break
// a promise as well.
func TestNoHints(t *testing.T) {
	began := time.Now()
	TestStore(t, func(*testing.T) owner.Store { return &quiet{careful{NewMemory()}} }, NoHints(),
		Peer(func(_ *testing.T, s owner.Store) owner.Store { return &quiet{careful{s.(*quiet).Peer()}} }))
	if took := time.Since(began); took > 20*time.Second { // a hint that does not come takes longer
		t.Errorf("it took %v", took)
	}
}

// A quiet store gives no hints.
type quiet struct{ careful }

func (*quiet) Watch(owner.Record, func()) (stop func(), err error) { return func() {}, nil }
