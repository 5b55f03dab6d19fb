package pgstore

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/contend"
)

var errEnough = errors.New("it was enough")

// saysWhy demands an error whose cause is the end of the context, and that says all this. The
// context of what is asked ends soon, and on a busy machine before anything else has failed.
func saysWhy(t *testing.T, ask func(context.Context) error, says ...string) {
	t.Helper()
	var err error
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last error: %v", err)
		}
	})
	contend.Await(t, "an error that says why", func() bool {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errEnough)
		defer cancel()
		if err = ask(ctx); !errors.Is(err, errEnough) {
			return false
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				return false
			}
		}
		return true
	})
}

// The error of a call whose context has ended before the server has answered says what was
// tried, where, and what has failed until then.
func TestWhyUnanswered(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	must(t, err)
	t.Cleanup(func() { must(t, mute.Close()) })
	_, port, err := net.SplitHostPort(mute.Addr().String())
	must(t, err)
	for name, tc := range map[string]struct{ dsn, where, why string }{
		"a refused port":            {"host=127.0.0.1 port=1", "127.0.0.1:1", "127.0.0.1:1: connect: connection refused"},
		"two refused ports":         {"host=127.0.0.1,127.0.0.1 port=1,2", "127.0.0.1:1, 127.0.0.1:2", "127.0.0.1:2: connect: connection refused"},
		"a refused and a mute port": {"host=127.0.0.1,127.0.0.1 port=1," + port, "127.0.0.1:1, 127.0.0.1:" + port, "127.0.0.1:1: connect: connection refused"},
		"a mute port":               {"host=127.0.0.1 port=" + port, "127.0.0.1:" + port, ""},
		"no socket":                 {"host=/nonexistent", "/nonexistent:5432", "/nonexistent/.s.PGSQL.5432: connect: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New(open(t, tc.dsn+" user=a dbname=b sslmode=disable"), "k")
			at := "Postgres lease k at Postgres database b at " + tc.where + ": "
			saysWhy(t, func(ctx context.Context) error { _, err := s.Look(ctx); return err }, "read "+at, tc.why)
			saysWhy(t, func(ctx context.Context) error { _, err := s.Acquire(ctx, claim(time.Minute)); return err }, at, tc.why)
		})
	}
}

// A renewal's, too, whose connection has ended, and which waits for another.
func TestWhyNotRenewed(t *testing.T) {
	t.Parallel()
	newDB(t, shared(t).DSN())
	net := shared(t).Proxy(t)
	acq, err := New(open(t, net.DSN()), uuid.NewString()).Acquire(t.Context(), claim(time.Minute))
	must(t, err)
	saysWhy(t, func(ctx context.Context) error {
		net.Heal()
		must(t, acq.Lease.Renew(t.Context(), 0))
		net.Mute()
		net.Break()
		return acq.Lease.Renew(ctx, 0)
	}, "renew ", errEnough.Error()+": ")
	net.Heal()
	must(t, acq.Lease.Renew(t.Context(), 0))
	must(t, acq.Lease.Release(t.Context()))
}

// Of two statements with a renewal, one that has failed is no answer while the other may be
// answered, and says why there was none.
func TestWhyOneOfTwoFailed(t *testing.T) {
	t.Parallel()
	db := open(t, "host=/nonexistent user=a dbname=b")
	k := &db.keeper
	k.sending = true // by this test
	r := &renewal{key: "k", instance: "i"}
	ctx, cancel := context.WithCancelCause(t.Context())
	renewed := make(chan error, 1)
	go func() {
		_, err := k.renew(ctx, r)
		renewed <- err
	}()
	contend.Await(t, "the renewal", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.waiting) > 0
	})
	b, _ := k.next()
	k.mu.Lock()
	r.pending++ // as after supersede
	k.mu.Unlock()
	k.settle(b, nil, errReadOnly)
	cancel(errEnough)
	if err := <-renewed; !errors.Is(err, errEnough) || !errors.Is(err, errReadOnly) {
		t.Errorf("renew: %v", err)
	}
}
