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
	c := etcdtest.Start(t).Client(t)
	ownertest.TestStore(t, func(*testing.T) owner.Store {
		return New(c, "/"+uuid.NewString())
	}, ownertest.TTL(3*time.Second))
}
