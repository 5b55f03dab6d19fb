package pgstore

import (
	"testing"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

func TestStore(t *testing.T) {
	db := newDB(t, shared(t).DSN())
	ownertest.TestStore(t, func(*testing.T) owner.Store { return New(db, uuid.NewString()) })
}
