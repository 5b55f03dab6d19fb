package etcdstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
)

// The owner learns at once that its lease was revoked; Revoke returns when it has stopped,
// and a standby owns.
func TestRevoke(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	first := join(t, t.Context(), New(c, "/k"))
	second := join(t, t.Context(), New(c, "/k"))
	revoked := make(chan error)
	go func() {
		rec, err := Revoke(t.Context(), c, "/k")
		if rec.InstanceID != first.InstanceID() || rec.Epoch != first.Epoch() {
			t.Errorf("revoked %+v", rec)
		}
		revoked <- err
	}()
	eventually(t, first.Lost(), "lost")
	if !errors.Is(first.LostErr(), owner.ErrRevoked) {
		t.Errorf("lost: %v", first.LostErr())
	}
	select {
	case err := <-revoked:
		t.Errorf("Revoke returned %v before the owner had stopped", err)
	default:
	}
	must(t, first.Release())
	must(t, <-revoked)
	eventually(t, second.Elected(), "elected after the revocation")
}

var errRead = errors.New("the lease was read often enough")

// untilRead returns a context that ends when the lease has been read n times through the
// line: once for each attempt to revoke it, and then by Revoke as it waits.
func untilRead(t *testing.T, l *line, n int) context.Context {
	ctx, end := context.WithCancelCause(t.Context())
	go func() {
		for ctx.Err() == nil && l.count("read") < n {
			sleep(ctx, 5*time.Millisecond)
		}
		end(errRead)
	}()
	t.Cleanup(func() { end(nil) })
	return ctx
}

// A hung owner keeps the lease until that has expired, by the key that is left.
func TestRevokeAHungOwner(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	c, line := through(t, srv)
	hung := acquire(t, New(srv.Client(t), "/k"), 3*time.Second) // nothing renews it
	rec, err := Revoke(untilRead(t, line, 2), c, "/k")
	says(t, "Revoke", err, errRead, "revoke etcd key /k")
	if rec.InstanceID != hung.Holder.InstanceID {
		t.Errorf("revoked %+v", rec)
	}
	if n := keys(t, c, "/k"); n != 1 {
		t.Errorf("%d keys are left", n)
	}
	rec, err = Revoke(t.Context(), c, "/k") // it finds it revoked
	must(t, err)
	if n := keys(t, c, "/k"); n != 0 || rec.InstanceID != hung.Holder.InstanceID {
		t.Errorf("%d keys are left; revoked %+v", n, rec)
	}
	_ = hung.Lease.Release(context.Background())
}

func TestRevokeNothing(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t).Client(t)
	if rec, err := Revoke(t.Context(), c, "/k"); err != nil || rec.InstanceID != "" {
		t.Errorf("no instance owns, and it was taken from %+v, %v", rec, err)
	}
	_, err := Revoke(t.Context(), c, "")
	says(t, "Revoke", err, owner.ErrInvalidConfig)
	_, err = c.Put(t.Context(), "/k", "not a record")
	must(t, err)
	_, err = Revoke(t.Context(), c, "/k")
	says(t, "Revoke", err, owner.ErrCorruptRecord, "/k")
	if n := keys(t, c, "/k"); n != 1 {
		t.Error("it has deleted what is no lease")
	}
}

// Where the answer to the deletion is lost, the lease is revoked all the same, from this
// owner.
func TestRevokeWithALostAnswer(t *testing.T) {
	t.Parallel()
	c, line := through(t, etcdtest.Start(t))
	acq := acquire(t, New(c, "/k"), 3*time.Second)
	line.disturb(only("put", once(answerLost)))
	rec, err := Revoke(t.Context(), c, "/k")
	must(t, err)
	if n := keys(t, c, "/k"); n != 0 || rec.InstanceID != acq.Holder.InstanceID {
		t.Errorf("%d keys are left; revoked %+v", n, rec)
	}
	_ = acq.Lease.Release(context.Background())
}

// An owner that has released between the reading and the deletion is not followed by one
// that is revoked in its place.
func TestRevokeSparesASuccessor(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	c, line := through(t, srv)
	other := New(srv.Client(t), "/k")
	first := acquire(t, other, time.Minute)
	var second owner.Acquisition
	line.disturb(only("put", once(func(ctx context.Context, _ string, apply func(context.Context) error) error {
		must(t, first.Lease.Release(context.Background()))
		second = acquire(t, other, time.Minute)
		return apply(ctx)
	})))
	rec, err := Revoke(t.Context(), c, "/k")
	must(t, err)
	if rec.InstanceID != first.Holder.InstanceID {
		t.Errorf("revoked %+v", rec)
	}
	must(t, second.Lease.Renew(t.Context(), other.Now()))
	must(t, second.Lease.Release(context.Background()))
}

// The first key is deleted only while the second one is there: an owner that is about to
// lose the lease keeps what it still has of it.
func TestRevokeLeavesTheLastKey(t *testing.T) {
	t.Parallel()
	srv := etcdtest.Start(t)
	c, line := through(t, srv)
	admin := srv.Client(t)
	acq := acquire(t, New(admin, "/k"), time.Minute)
	line.disturb(only("put", once(func(ctx context.Context, _ string, apply func(context.Context) error) error {
		_, err := admin.Delete(ctx, "/k"+aliveSuffix)
		must(t, err)
		return apply(ctx)
	})))
	rec, err := Revoke(untilRead(t, line, 3), c, "/k")
	says(t, "Revoke", err, errRead)
	if n := keys(t, admin, "/k"); n != 1 || rec.InstanceID != acq.Holder.InstanceID {
		t.Errorf("%d keys are left; revoked %+v", n, rec)
	}
	_ = acq.Lease.Release(context.Background())
}
