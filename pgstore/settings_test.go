package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/contend"
	"github.com/ownerlease/owner/internal/pgtest"
)

// What a database or a role has set does not change what a lease is.

// A commit that was not replicated is told by a warning, which does not count as success even
// where warnings are not wanted.
func TestWarningsAreNotWanted(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	db := newDB(t, s.DSN()+" options='-c client_min_messages=error'")
	acq, err := New(db, "k").Acquire(t.Context(), claim(20*time.Second))
	must(t, err)
	s.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = 'none'")
	s.Exec(t, "SELECT pg_reload_conf()")
	contend.Await(t, "the setting", func() bool { return s.Exec(t, "SHOW synchronous_standby_names") == "none" })
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	admin := open(t, s.DSN())
	go func() {
		for ctx.Err() == nil {
			_, _ = admin.pool.Exec(ctx, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
			sleep(ctx, 10*time.Millisecond)
		}
	}()
	contend.Await(t, "a commit that has waited", func() bool {
		err = acq.Lease.Renew(t.Context(), 0)
		return err != nil
	})
	if !errors.Is(err, owner.ErrUnavailable) || !errors.Is(err, errWarned) {
		t.Errorf("renewed: %v", err)
	}
}

// Of several that acquire at once, one does; the others are told who.
func TestIsolationByDefault(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	newDB(t, s.DSN())
	for _, level := range []string{"repeatable read", "serializable"} {
		s.Exec(t, "ALTER DATABASE postgres SET default_transaction_isolation = '"+level+"'")
		var dbs []*DB
		for range 6 {
			dbs = append(dbs, open(t, s.DSN()))
		}
		for round := range 20 {
			key := fmt.Sprint(level, round)
			won := make(chan owner.Lease, len(dbs))
			var all sync.WaitGroup
			for _, db := range dbs {
				all.Go(func() {
					acq, err := New(db, key).Acquire(t.Context(), claim(20*time.Second))
					switch {
					case err != nil || acq.Holder.InstanceID == "":
						t.Errorf("%s: %+v, %v", level, acq, err)
					case acq.Lease != nil:
						won <- acq.Lease
					}
				})
			}
			all.Wait()
			lease := <-won
			must(t, errors.Join(lease.Renew(t.Context(), 0), lease.Release(t.Context())))
		}
	}
}

// A role that could not renew does not acquire.
func TestRoleWithoutUpdate(t *testing.T) {
	t.Parallel()
	s := shared(t)
	newDB(t, s.DSN())
	name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	s.Exec(t, fmt.Sprintf("CREATE ROLE %[1]s LOGIN; GRANT SELECT, INSERT ON owner_lease TO %[1]s", name))
	as := open(t, strings.Replace(s.DSN(), "user=postgres", "user="+name, 1))
	acq, err := New(as, name).Acquire(t.Context(), claim(time.Second))
	if acq.Lease != nil || !errors.Is(err, owner.ErrInvalidConfig) || !strings.Contains(err.Error(), "UPDATE") {
		t.Errorf("%+v, %v", acq, err)
	}
	if n := s.Exec(t, fmt.Sprintf("SELECT count(*) FROM owner_lease WHERE key = '%s'", name)); n != "0" {
		t.Error("a row was left")
	}
}

// A key is UTF-8 in any database that can express it.
func TestEncodings(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	for encoding, keys := range map[string]map[string]error{
		"EUC_JP": {"日本": nil, "😀": owner.ErrInvalidConfig},
		"LATIN1": {"ä": nil, "日本": owner.ErrInvalidConfig},
	} {
		name := "db" + strings.ToLower(encoding)
		s.Exec(t, "CREATE DATABASE "+name+" ENCODING '"+encoding+"' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
		db := newDB(t, strings.Replace(s.DSN(), "dbname=postgres", "dbname="+name, 1))
		for key, want := range keys {
			c := claim(time.Second)
			c.Meta = map[string]string{"key": key}
			acq, err := New(db, key).Acquire(t.Context(), c)
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: %v", encoding, key, err)
			}
			if err != nil {
				continue
			}
			view, err := New(db, key).Look(t.Context())
			if err != nil || view.Holder.Meta["key"] != key {
				t.Errorf("%s, %s: %+v, %v", encoding, key, view, err)
			}
			must(t, acq.Lease.Release(t.Context()))
		}
	}
}
