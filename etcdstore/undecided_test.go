package etcdstore

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
)

// An unknown outcome is not taken for a success, leaves nothing behind, and is an error
// that says that trying again can help.

// ttl is one whose requests are given up after less than two seconds.
const ttl = 6 * time.Second

func TestAcquireUndecided(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	for name, tc := range map[string]struct {
		kind string
		f    disturbance
		won  bool
	}{
		"a reading is lost":             {"read", once(requestLost), true},
		"all readings are lost":         {"read", requestLost, false},
		"all readings hang":             {"read", requestHangs, false},
		"a grant's answer is lost":      {"grant", once(answerLost), true},
		"the grants are lost":           {"grant", requestLost, false},
		"a put is lost":                 {"put", once(requestLost), true},
		"a put hangs":                   {"put", once(requestHangs), true},
		"a put's answer is lost":        {"put", once(answerLost), true},
		"a put's answer hangs":          {"put", once(answerHangs), true},
		"all answers to puts are lost":  {"put", answerLost, false},
		"all answers to puts hang":      {"put", answerHangs, false},
		"a revocation is lost (beaten)": {"revoke", once(requestLost), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := srv.Client(t)
			c, line := through(t, srv)
			key := "/" + uuid.NewString()
			s := New(c, key)
			line.disturb(only(tc.kind, tc.f))
			mine := claim(ttl)
			acq, err := s.Acquire(t.Context(), mine)
			line.disturb(nil)
			if !tc.won {
				if !errors.Is(err, owner.ErrUnavailable) || !strings.Contains(err.Error(), key) || acq.Lease != nil {
					t.Errorf("Acquire: %+v, %v", acq, err)
				}
				nothingLeft(t, own, key, line)
				return
			}
			must(t, err)
			if acq.Lease == nil || acq.Holder.InstanceID != mine.InstanceID {
				t.Fatalf("Acquire: %+v", acq)
			}
			// What it has won is whole: it can be renewed, and others see the same.
			must(t, acq.Lease.Renew(t.Context(), s.Now()))
			if v := look(t, New(own, key)); v.Holder.Epoch != acq.Holder.Epoch {
				t.Errorf("the owner has epoch %d, and others see %d", acq.Holder.Epoch, v.Holder.Epoch)
			}
			must(t, acq.Lease.Release(context.Background()))
			nothingLeft(t, own, key, line)
		})
	}
}

// nothingLeft checks that neither a key of the lease nor an etcd lease that was granted
// through the line is there any more.
func nothingLeft(t *testing.T, own *clientv3.Client, key string, line *line) {
	t.Helper()
	if keys, leases := keys(t, own, key), line.left(t, own); keys != 0 || leases != 0 {
		t.Errorf("%d keys and %d etcd leases are left", keys, leases)
	}
}

// What is put of an advertisement is the owner's, whether it hears of it or not.
func TestAdvertiseUndecided(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	for name, tc := range map[string]struct {
		f    disturbance
		done bool
	}{
		"a put is lost":            {once(requestLost), true},
		"a put hangs":              {once(requestHangs), true},
		"a put's answer is lost":   {once(answerLost), true},
		"a put's answer hangs":     {once(answerHangs), true},
		"all puts are lost":        {requestLost, false},
		"all answers to puts hang": {answerHangs, false},
		"all answers are lost":     {answerLost, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := srv.Client(t)
			c, line := through(t, srv)
			key := "/" + uuid.NewString()
			s := New(c, key)
			acq := acquire(t, s, ttl)
			for n := range 2 { // the second one after an undecided one
				line.disturb(only("put", tc.f))
				meta := map[string]string{"n": strconv.Itoa(n)}
				err := acq.Lease.Advertise(t.Context(), meta)
				line.disturb(nil)
				if tc.done != (err == nil) || err != nil && !errors.Is(err, owner.ErrUnavailable) {
					t.Fatalf("Advertise: %v", err)
				}
				if v := look(t, New(own, key)); tc.done && v.Holder.Meta["n"] != meta["n"] {
					t.Errorf("others see %v", v.Holder.Meta)
				}
			}
			must(t, acq.Lease.Renew(t.Context(), s.Now()))
			must(t, acq.Lease.Advertise(t.Context(), map[string]string{"at": "last"}))
			if v := look(t, New(own, key)); v.Holder.Meta["at"] != "last" || v.Holder.Epoch != acq.Holder.Epoch {
				t.Errorf("others see %+v", v.Holder)
			}
			must(t, acq.Lease.Renew(t.Context(), s.Now()))
			must(t, acq.Lease.Release(context.Background()))
			nothingLeft(t, own, key, line)
		})
	}
}

// A put of an advertisement that is applied when it has long been given up changes nothing
// that was put after it: not by its own lease, and not by another's.
func TestAdvertiseTooLate(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	own := srv.Client(t)
	c, line := through(t, srv)
	s := New(c, "/k")
	acq := acquire(t, s, time.Minute)
	var late []func(context.Context) error
	line.disturb(only("put", func(_ context.Context, _ string, apply func(context.Context) error) error {
		late = append(late, apply)
		return errLine
	}))
	if err := acq.Lease.Advertise(t.Context(), map[string]string{"n": "late"}); !errors.Is(err, owner.ErrUnavailable) {
		t.Fatalf("Advertise: %v", err)
	}
	line.disturb(nil)
	must(t, acq.Lease.Advertise(t.Context(), map[string]string{"n": "later"}))
	unchanged := func(holder owner.Record, want string) {
		t.Helper()
		for _, apply := range late {
			_ = apply(t.Context())
		}
		if v := look(t, New(own, "/k")); v.Holder.InstanceID != holder.InstanceID || v.Holder.Meta["n"] != want {
			t.Errorf("others see %+v", v.Holder)
		}
	}
	unchanged(acq.Holder, "later")
	must(t, acq.Lease.Renew(t.Context(), s.Now()))
	must(t, acq.Lease.Release(context.Background()))
	next := acquire(t, New(own, "/k"), time.Minute)
	unchanged(next.Holder, "")
	must(t, next.Lease.Renew(t.Context(), s.Now()))
	must(t, next.Lease.Release(context.Background()))
}

// Keys that an attempt has put and could not delete have no owner: the error says for how
// long they can block others, and the instance deletes them when it tries again.
func TestAcquireNotUndone(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	c, line := through(t, srv)
	s := New(c, "/k")
	mine := claim(ttl * 10)
	line.disturb(func(ctx context.Context, kind string, apply func(context.Context) error) error {
		switch kind {
		case "put":
			return answerLost(ctx, kind, apply)
		case "revoke":
			return errLine
		}
		return apply(ctx)
	})
	acq, err := s.Acquire(t.Context(), mine)
	if acq.Lease != nil || !errors.Is(err, owner.ErrUnavailable) || !strings.Contains(err.Error(), "1m0s") {
		t.Fatalf("Acquire: %+v, %v", acq, err)
	}
	line.disturb(nil)
	if v := look(t, s); v.Holder.InstanceID != mine.InstanceID {
		t.Fatalf("nothing was left behind: %+v", v)
	}
	acq, err = s.Acquire(t.Context(), mine)
	must(t, err)
	if acq.Lease == nil {
		t.Fatalf("Acquire names itself: %+v", acq.Holder)
	}
	must(t, acq.Lease.Renew(t.Context(), s.Now()))
	must(t, acq.Lease.Release(context.Background()))
	if keys(t, c, "/k") != 0 || leases(t, c) != 0 {
		t.Errorf("%d keys and %d etcd leases are left", keys(t, c, "/k"), leases(t, c))
	}
}

// A put that is applied long after its attempt was given up acquires nothing, be the
// lease free, owned, or owned by an instance whose key was deleted.
func TestAcquireTooLate(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	for _, meanwhile := range []string{"", "owned", "owned, key deleted", "owned, alive key deleted"} {
		t.Run(meanwhile, func(t *testing.T) {
			t.Parallel()
			own := srv.Client(t)
			c, line := through(t, srv)
			key := "/" + uuid.NewString()
			var late []func(context.Context) error
			line.disturb(only("put", func(_ context.Context, _ string, apply func(context.Context) error) error {
				late = append(late, apply)
				return errLine
			}))
			if _, err := New(c, key).Acquire(t.Context(), claim(time.Minute)); !errors.Is(err, owner.ErrUnavailable) {
				t.Fatalf("Acquire: %v", err)
			}
			var other owner.Acquisition
			if meanwhile != "" {
				other = acquire(t, New(own, key), time.Minute)
			}
			h := hand{t, own, key}
			switch {
			case strings.HasSuffix(meanwhile, "alive key deleted"):
				h.delete(aliveSuffix)
			case strings.HasSuffix(meanwhile, "key deleted"):
				h.delete("")
			}
			for _, put := range late {
				_ = put(t.Context()) // it succeeds in doing nothing, or fails
			}
			if v := look(t, New(own, key)); v.Holder.InstanceID != other.Holder.InstanceID {
				t.Errorf("%q owns, and %q should", v.Holder.InstanceID, other.Holder.InstanceID)
			}
		})
	}
}

// A challenger that has found the lease free comes second, even if the winner's key is
// deleted at once.
func TestAcquireBeaten(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	for _, gone := range []string{"none", "", aliveSuffix} {
		t.Run(gone, func(t *testing.T) {
			t.Parallel()
			own := srv.Client(t)
			c, line := through(t, srv)
			key := "/" + uuid.NewString()
			var winner owner.Acquisition
			line.disturb(only("put", func(ctx context.Context, _ string, apply func(context.Context) error) error {
				if winner.Lease == nil {
					winner = acquire(t, New(own, key), time.Minute)
				}
				if gone != "none" {
					hand{t, own, key}.delete(gone)
				}
				return apply(ctx)
			}))
			acq, err := New(c, key).Acquire(t.Context(), claim(time.Minute))
			must(t, err)
			if acq.Lease != nil || acq.Holder.InstanceID != winner.Holder.InstanceID || acq.Holder.Epoch != winner.Holder.Epoch {
				t.Errorf("%s has won, and the other gets %+v", winner.Holder.InstanceID, acq)
			}
			if n := line.left(t, own); n != 0 {
				t.Errorf("%d etcd leases of the one that was beaten are left", n)
			}
		})
	}
}

// When its context ends, Acquire returns the cause, and undoes what it has begun.
func TestAcquireCancelled(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	enough := errors.New("enough")
	// Of two grants at the same time, the other can still be on its way when it is revoked.
	for kind, last := range map[string]int32{"read": 1, "grant": 2, "put": 1} {
		for how, f := range map[string]disturbance{"before": requestHangs, "after": answerHangs} {
			t.Run(kind+" "+how, func(t *testing.T) {
				t.Parallel()
				own := srv.Client(t)
				c, line := through(t, srv)
				key := "/" + uuid.NewString()
				ctx, cancel := context.WithCancelCause(t.Context())
				var applied atomic.Int32
				line.disturb(only(kind, func(ctx context.Context, kind string, apply func(context.Context) error) error {
					return f(ctx, kind, func(ctx context.Context) error {
						err := apply(ctx)
						if applied.Add(1) == last {
							cancel(enough)
						}
						return err
					})
				}))
				if how == "before" {
					line.disturb(only(kind, func(ctx context.Context, kind string, apply func(context.Context) error) error {
						cancel(enough)
						return f(ctx, kind, apply)
					}))
				}
				acq, err := New(c, key).Acquire(ctx, claim(time.Minute))
				if acq.Lease != nil || !errors.Is(err, enough) || !strings.Contains(err.Error(), key) {
					t.Errorf("Acquire: %+v, %v", acq, err)
				}
				nothingLeft(t, own, key, line)
			})
		}
	}
}

// A renewal that gets no answer is no loss, and takes no longer than leaves room for
// another. One that gets an answer at the second or third try counts fully.
func TestRenewUndecided(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	for name, tc := range map[string]struct {
		f       disturbance
		hang    int
		renewed bool
	}{
		"a reading is lost":     {f: only("read", once(requestLost)), renewed: true},
		"a reading hangs":       {f: only("read", once(requestHangs)), renewed: true},
		"all readings are lost": {f: only("read", requestLost)},
		"all readings hang":     {f: only("read", requestHangs)},
		"all keep-alives hang":  {hang: math.MaxInt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, line := through(t, srv)
			s := New(c, "/"+uuid.NewString())
			acq := acquire(t, s, ttl)
			must(t, acq.Lease.Renew(t.Context(), s.Now())) // the stream is open
			line.disturb(tc.f)
			line.hang(tc.hang)
			begun := time.Now()
			err := acq.Lease.Renew(t.Context(), s.Now())
			took := time.Since(begun)
			if tc.renewed {
				must(t, err)
			} else if !errors.Is(err, owner.ErrUnavailable) || isLoss(err) {
				t.Errorf("Renew: %v", err)
			}
			if took > ttl/2 {
				t.Errorf("it took %v", took)
			}
			line.disturb(nil)
			line.hang(0)
			must(t, acq.Lease.Renew(t.Context(), s.Now()))
			must(t, acq.Lease.Release(context.Background()))
		})
	}
}

// An answer that is missing on one stream is asked for on another: it goes to the
// client's next endpoint.
func TestRenewOnAnotherStream(t *testing.T) {
	t.Parallel()
	c, line := through(t, etcdtest.Start(t))
	s := New(c, "/k")
	acq := acquire(t, s, ttl)
	must(t, acq.Lease.Renew(t.Context(), s.Now()))
	line.hang(1)
	must(t, acq.Lease.Renew(t.Context(), s.Now()))
	if n := line.opened(); n < 2 {
		t.Errorf("%d streams were opened", n)
	}
	must(t, acq.Lease.Release(context.Background()))
}

// A keep-alive that was answered by a former leader proves nothing about the lease, which
// its successors decide.
func TestRenewWithReplacedLeader(t *testing.T) {
	t.Parallel()
	c, line := through(t, etcdtest.Start(t))
	s := New(c, "/k")
	acq := acquire(t, s, ttl)
	line.outdate(true)
	if err := acq.Lease.Renew(t.Context(), s.Now()); !errors.Is(err, owner.ErrUnavailable) {
		t.Errorf("Renew: %v", err)
	}
	line.outdate(false)
	must(t, acq.Lease.Renew(t.Context(), s.Now()))
	must(t, acq.Lease.Release(context.Background()))
}

func TestReleaseUndecided(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	for name, tc := range map[string]struct {
		f    disturbance
		left int64 // keys
	}{
		"the deletion's answer is lost": {only("delete", answerLost), 0},
		"the deletion is lost":          {only("delete", requestLost), 0},
		"the revocations are lost":      {only("revoke", requestLost), 0},
		"all is lost":                   {requestLost, 2},
		"all answers are lost":          {answerLost, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := srv.Client(t)
			c, line := through(t, srv)
			key := "/" + uuid.NewString()
			acq := acquire(t, New(c, key), time.Minute)
			line.disturb(tc.f)
			err := acq.Lease.Release(context.Background())
			if all := strings.HasPrefix(name, "all"); all != errors.Is(err, owner.ErrUnavailable) || all != (err != nil) {
				t.Errorf("Release: %v", err)
			}
			if n := keys(t, own, key); n != tc.left {
				t.Errorf("%d keys are left", n)
			}
		})
	}
}

// Each call's error says that its context has ended, and why.
func TestEndedContext(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	s := New(c, "/k")
	acq := acquire(t, s, time.Minute)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	_, err := s.Acquire(ctx, claim(time.Minute))
	_, looked := s.Look(ctx)
	for _, err := range []error{err, looked, acq.Lease.Renew(ctx, s.Now()), acq.Lease.Release(ctx)} {
		if !errors.Is(err, enough) || errors.Is(err, owner.ErrUnavailable) || isLoss(err) {
			t.Errorf("%v", err)
		}
	}
}

func TestClosedClient(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	s := New(c, "/k")
	acq := acquire(t, s, time.Minute)
	must(t, c.Close())
	_, err := s.Acquire(t.Context(), claim(time.Minute))
	_, looked := s.Look(t.Context())
	for _, err := range []error{err, looked, acq.Lease.Renew(t.Context(), s.Now()), acq.Lease.Release(context.Background())} {
		if err == nil || !strings.Contains(err.Error(), "client was closed") || errors.Is(err, owner.ErrUnavailable) || isLoss(err) {
			t.Errorf("%v", err)
		}
	}
}
