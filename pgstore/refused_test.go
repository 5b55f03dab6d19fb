package pgstore

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/pgtest"
)

// What cannot work is refused with a reason, and leaves nothing behind.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := shared(t)
	db := newDB(t, s.DSN())
	name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	s.Exec(t, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN; CREATE SCHEMA %[1]s; CREATE SCHEMA %[1]sold; CREATE TABLE %[1]sold.owner_lease (key text);
		CREATE SCHEMA %[1]snew; CREATE TABLE %[1]snew.owner_lease (LIKE owner_lease INCLUDING ALL);
		INSERT INTO %[1]snew.owner_lease SELECT key, instance, epoch, beat, ttl, held, revoked, advertised, handover, successor, incarnation, renewed, 'owner-lease-postgres/2' FROM owner_lease WHERE key = '';
		CREATE SCHEMA %[1]sun; CREATE UNLOGGED TABLE %[1]sun.owner_lease (LIKE owner_lease INCLUDING ALL); INSERT INTO %[1]sun.owner_lease SELECT * FROM owner_lease WHERE key = ''`, name))
	in := func(schema string) *DB { return open(t, s.DSN()+" search_path="+name+schema) }
	as := open(t, strings.Replace(s.DSN(), "user=postgres", "user="+name, 1))
	long := claim(time.Second)
	long.Meta = map[string]string{"k": strings.Repeat("x", maxRecord)}
	for what, c := range map[string]struct {
		db    *DB
		key   string
		claim owner.Record
		says  string
	}{
		"no key":            {db, "", claim(time.Second), "empty"},
		"a long key":        {db, strings.Repeat("k", maxKey+1), claim(time.Second), "1025 bytes, and 1024"},
		"a NUL in the key":  {db, "a\x00b", claim(time.Second), "NUL"},
		"a key in no text":  {db, "a\xff", claim(time.Second), "not UTF-8"},
		"a long TTL":        {db, "long", claim(DefaultMaxTTL + 1), "1m0s at most"},
		"a short TTL":       {db, "short", claim(time.Millisecond), "50ms is the least"},
		"much metadata":     {db, "much", long, "metadata too large"},
		"no table":          {in(""), "k", claim(time.Second), "owner-pg setup"},
		"another table":     {in("old"), "k", claim(time.Second), "another version"},
		"a newer table":     {in("new"), "k", claim(time.Second), `the format "owner-lease-postgres/2"`},
		"an unlogged table": {in("un"), "k", claim(time.Second), "UNLOGGED"},
		"no right":          {as, "k", claim(time.Second), "USAGE on the schema"},
		"no such database":  {open(t, strings.Replace(s.DSN(), "dbname=postgres", "dbname="+name, 1)), "k", claim(time.Second), "does not exist"},
		"no such role":      {open(t, strings.Replace(s.DSN(), "user=postgres", "user=no"+name, 1)), "k", claim(time.Second), "does not exist"},
	} {
		acq, err := New(c.db, c.key).Acquire(t.Context(), c.claim)
		if acq.Lease != nil || !errors.Is(err, owner.ErrInvalidConfig) || errors.Is(err, owner.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", what, err, c.says)
		}
		if n := s.Exec(t, fmt.Sprintf("SELECT count(*) FROM owner_lease WHERE instance = '%s'", c.claim.InstanceID)); n != "0" {
			t.Errorf("%s: a row was left", what)
		}
	}
	if err := Setup(t.Context(), as, 0); !errors.Is(err, owner.ErrInvalidConfig) {
		t.Errorf("set up without the right: %v", err)
	}
	if err := Setup(t.Context(), db, 2*time.Minute); !errors.Is(err, owner.ErrInvalidConfig) || !strings.Contains(err.Error(), "stop all instances") {
		t.Errorf("set up with another TTL: %v", err)
	}
	// With the rights on the table alone, everything works.
	s.Exec(t, fmt.Sprintf("GRANT SELECT, INSERT, UPDATE ON owner_lease TO %s", name))
	must(t, Setup(t.Context(), as, 0))
	acq, err := New(as, name).Acquire(t.Context(), claim(time.Second))
	must(t, err)
	must(t, acq.Lease.Renew(t.Context(), 0))
	must(t, acq.Lease.Release(t.Context()))
}

// A server that accepts no writes, or is not there, can be another one later.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	newDB(t, s.DSN())
	replica := s.Replica(t)
	away := open(t, "host=/nonexistent user=a dbname=b")
	for what, db := range map[string]*DB{"a replica": open(t, replica.DSN()), "no server": away} {
		_, err := New(db, "k").Acquire(t.Context(), claim(time.Second))
		if !errors.Is(err, owner.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := New(db, "k").Look(t.Context()); !errors.Is(err, owner.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	away.Close()
	if _, err := New(away, "k").Look(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("a closed DB: %v", err)
	}
}

// Metadata may hold anything that JSON can, a NUL among it.
func TestMetaWithNUL(t *testing.T) {
	t.Parallel()
	db := newDB(t, shared(t).DSN())
	store := New(db, uuid.NewString())
	c := claim(time.Second)
	c.Meta = map[string]string{"a\x00": "\x00b"}
	acq, err := store.Acquire(t.Context(), c)
	must(t, err)
	view, err := store.Look(t.Context())
	if err != nil || view.Holder.Meta["a\x00"] != "\x00b" {
		t.Errorf("%q, %v", view.Holder.Meta, err)
	}
	must(t, acq.Lease.Release(t.Context()))
}
