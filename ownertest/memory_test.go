package ownertest

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/ownerlease/owner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	TestStore(t, func(*testing.T) owner.Store { return NewMemory() })
}
