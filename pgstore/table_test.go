package pgstore

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/pgtest"
)

func claim(ttl time.Duration) owner.Record {
	return owner.Record{InstanceID: uuid.NewString(), PID: 1, Host: "h", TTL: ttl}
}

// No row is deleted by mistake; an owner whose row is, notices.
func TestRowsAreNotDeleted(t *testing.T) {
	t.Parallel()
	db := newDB(t, pgtest.Start(t).DSN()) // TRUNCATE locks the table
	key := uuid.NewString()
	won, err := New(db, key).Acquire(t.Context(), claim(time.Minute))
	must(t, err)
	for _, sql := range []string{"DELETE FROM owner_lease WHERE key = '" + key + "'", "TRUNCATE owner_lease"} {
		if _, err := db.pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "not deleted") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	must(t, won.Lease.Renew(t.Context(), 0))
	_, err = db.pool.Exec(t.Context(), "SET session_replication_role = replica; DELETE FROM owner_lease WHERE key = '"+key+"'; RESET session_replication_role")
	must(t, err)
	if err := won.Lease.Renew(t.Context(), 0); !errors.Is(err, owner.ErrRevoked) {
		t.Errorf("without its row: %v", err)
	}
}
