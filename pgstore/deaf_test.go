package pgstore

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/contend"
	"github.com/ownerlease/owner/internal/pgtest"
)

// Behind pgbouncer, which passes on no notifications, an owner is asked long before its next
// renewal: by a request that comes before that is known, and by one that comes after, also
// where its process has nothing else to poll for.
func TestDeafOwnerIsAsked(t *testing.T) {
	t.Parallel()
	server := shared(t)
	newDB(t, server.DSN())
	dsn := pgtest.DSN(server.Bouncer(t))
	for name, isDeaf := range map[string]bool{"before it is known": false, "after it is known": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, key := open(t, dsn), uuid.NewString()
			o, err := owner.Join(t.Context(), owner.Config{Store: New(db, key), TTL: time.Minute})
			must(t, err)
			if isDeaf {
				contend.Await(t, "no notifications", db.news.isDeaf)
				contend.Await(t, "the hint of that", func() bool { return o.Stats().Renewals > 0 })
			}
			must(t, owner.RequestHandover(t.Context(), owner.Config{Store: New(open(t, dsn), key)}, ""))
			began := time.Now()
			select {
			case <-o.HandoverRequested():
				t.Logf("asked after %v", time.Since(began))
			case <-time.After(15 * time.Second): // a renewal would come after 20 s
				t.Error("it is not asked")
			}
			must(t, o.Release())
			<-o.Done()
		})
	}
}

// What a watch has been polled before it is known that no notifications arrive, the first poll
// after that gives a hint of, and the next ones do not.
func TestFirstPollWithoutNotifications(t *testing.T) {
	t.Parallel()
	hints := 0
	db := open(t, "host=/nonexistent user=a dbname=b")
	w := &watch{store: New(db, "k").(*store), hint: func() { hints++ }}
	r := &row{key: "k", present: true, ttl: time.Hour, state: state{instance: "i", held: true}}
	for _, step := range []struct {
		deaf error
		want int
	}{{nil, 0}, {nil, 0}, {errors.New("none arrive"), 1}, {errors.New("none arrive"), 1}} {
		db.news.deaf = step.deaf
		if w.observe(r); hints != step.want {
			t.Errorf("a poll with %v: %d hints so far, want %d", step.deaf, hints, step.want)
		}
	}
}
