package etcdstore

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"github.com/ownerlease/owner/ownertest"
)

func TestStore(t *testing.T) {
	srv := etcdtest.Start(t)
	c, peers := srv.Client(t), srv.Client(t)
	ownertest.TestStore(t, func(*testing.T) owner.Store {
		return New(c, "/"+uuid.NewString())
	}, ownertest.TTL(3*time.Second),
		ownertest.Peer(func(_ *testing.T, s owner.Store) owner.Store {
			return New(peers, s.(*store).key)
		}),
		ownertest.LostAnswers(func(t *testing.T, s owner.Store) (restore func()) {
			own, line := through(t, srv) // the other stores' answers arrive
			s.(*store).client = own
			line.disturb(only("put", answerLost))
			return func() { line.disturb(nil) }
		}))
}
