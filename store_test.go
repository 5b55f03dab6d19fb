package owner_test

import (
	"path/filepath"
	"testing"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

func TestFileStoreKeepsItsPromises(t *testing.T) {
	ownertest.TestStore(t, func(t *testing.T) owner.Store {
		s, err := owner.FileStore(filepath.Join(t.TempDir(), "x.lease"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
