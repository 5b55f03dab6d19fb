package pgstore

import (
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

func TestStore(t *testing.T) {
	net := shared(t).Proxy(t)
	db, other := newDB(t, net.DSN()), open(t, shared(t).DSN())
	ownertest.TestStore(t, func(*testing.T) owner.Store { return New(db, uuid.NewString()) },
		ownertest.Peer(func(_ *testing.T, s owner.Store) owner.Store { return New(other, s.(*store).key) }),
		ownertest.LostAnswers(func(t *testing.T, s owner.Store) (restore func()) {
			acquires := acquires(s.(*store).key)
			var lost atomic.Bool
			net.LoseAnswers(func(request []byte) bool {
				if !acquires(request) {
					return false
				}
				lost.Store(true)
				return true
			})
			return func() {
				net.Heal()
				if !lost.Load() {
					t.Error("no answer was lost")
				}
			}
		}))
}
