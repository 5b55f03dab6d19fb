package pgstore

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
)

// The renewals of a thousand leases of a process are a few statements on one connection.
func TestManyRenewals(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	const n = 1000
	prefix := uuid.NewString()
	all := make([]owner.Lease, n)
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c := claim(time.Minute)
			acq, err := New(db, fmt.Sprint(prefix, i)).Acquire(t.Context(), c)
			if err != nil || acq.Lease == nil {
				t.Errorf("%+v, %v", acq, err)
				return
			}
			all[i], ids[i] = acq.Lease, c.InstanceID
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	began := time.Now()
	for i := range n {
		wg.Go(func() {
			if err := all[i].Renew(t.Context(), 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d renewals in %v", n, time.Since(began))
	conn, err := db.connect(t.Context())
	must(t, err)
	defer closeSoon(conn)
	renewals := make([]*renewal, n)
	for i := range n {
		renewals[i] = &renewal{key: fmt.Sprint(prefix, i), instance: ids[i]}
	}
	for range 5 {
		began = time.Now()
		found, err := renewAll(t.Context(), conn, renewals)
		t.Logf("as one statement: %v", time.Since(began))
		if err != nil || len(found) != n {
			t.Errorf("%d renewed, %v", len(found), err)
		}
	}
}

// A row that another transaction has locked is left out of the statement that renews the
// others.
func TestLockedRow(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	var renewals []*renewal
	for range 2 {
		c := claim(time.Minute)
		_, err := New(db, c.InstanceID).Acquire(t.Context(), c)
		must(t, err)
		renewals = append(renewals, &renewal{key: c.InstanceID, instance: c.InstanceID})
	}
	conn, err := db.connect(t.Context())
	must(t, err)
	defer closeSoon(conn)
	tx, err := conn.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM owner_lease WHERE key = $1 FOR UPDATE", renewals[0].key)
	must(t, err)
	other, err := db.connect(t.Context())
	must(t, err)
	defer closeSoon(other)
	found, err := renewAll(t.Context(), other, renewals)
	must(t, err)
	if err := found[renewals[0].instance].err; err != errLocked {
		t.Errorf("the row that is locked: %v", err)
	}
	if err := found[renewals[1].instance].err; err != nil {
		t.Errorf("the other: %v", err)
	}
}

// A release that is about to come, as after a loss, is not cut off.
func TestCloseWaitsForRelease(t *testing.T) {
	t.Parallel()
	db := open(t, shared(t).DSN())
	reader := newDB(t, shared(t).DSN())
	key := uuid.NewString()
	acq, err := New(db, key).Acquire(t.Context(), claim(time.Minute))
	must(t, err)
	time.AfterFunc(50*time.Millisecond, func() {
		if err := acq.Lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
	db.Close()
	if view, err := New(reader, key).Look(t.Context()); err != nil || !view.Free() {
		t.Errorf("%+v, %v", view, err)
	}
}
