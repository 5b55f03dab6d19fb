package etcdstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// guarded starts a server with authentication. Besides root, with the password "root",
// there are users that have their name for a password, and these rights.
func guarded(t *testing.T, rights map[string]func(c *clientv3.Client, role string) error, flags ...string) *etcdtest.Server {
	t.Helper()
	srv := etcdtest.Start(t, append(flags, "--bcrypt-cost=4")...) // the least, for speed
	c := srv.Client(t)
	user := func(name string) {
		t.Helper()
		_, err := c.RoleAdd(t.Context(), name)
		must(t, err)
		_, err = c.UserAdd(t.Context(), name, name)
		must(t, err)
		_, err = c.UserGrantRole(t.Context(), name, name)
		must(t, err)
	}
	user("root")
	for name, grant := range rights {
		user(name)
		must(t, grant(c, name))
	}
	_, err := c.AuthEnable(t.Context())
	must(t, err)
	return srv
}

// right gives a role a right to the keys from one to before another.
func right(from, to string, kind clientv3.PermissionType) func(*clientv3.Client, string) error {
	return func(c *clientv3.Client, role string) error {
		_, err := c.RoleGrantPermission(context.Background(), role, from, to, kind)
		return err
	}
}

func as(user string) func(*clientv3.Config) {
	return func(c *clientv3.Config) { c.Username, c.Password = user, user }
}

const readWrite = clientv3.PermissionType(clientv3.PermReadWrite)

func TestRights(t *testing.T) {
	t.Parallel()
	srv := guarded(t, map[string]func(*clientv3.Client, string) error{
		"whole":  right("/k", "/k"+aliveSuffix+"\x00", readWrite),
		"half":   right("/k", "", readWrite),
		"reader": right("/k", "/l", clientv3.PermissionType(clientv3.PermRead)),
		"none":   func(*clientv3.Client, string) error { return nil },
	})
	_, err := New(srv.Client(t), "/k").Acquire(t.Context(), claim(time.Minute))
	says(t, "without a user", err, nil, "/k", "Username", "certificate")
	for _, user := range []string{"half", "reader", "none"} {
		_, err := New(srv.Client(t, as(user)), "/k").Acquire(t.Context(), claim(time.Minute))
		says(t, user, err, nil, "/k.alive", "readwrite", "grant-permission")
	}
	_, err = New(srv.Client(t, as("none")), "/k").Look(t.Context())
	says(t, "Look", err, nil, "/k.alive", "permission")
	root := srv.Client(t, as("root"))
	if leases(t, root) != 0 || keys(t, root, "/k") != 0 {
		t.Errorf("%d etcd leases and %d keys are left", leases(t, root), keys(t, root, "/k"))
	}

	whole := New(srv.Client(t, as("whole")), "/k")
	acq := acquire(t, whole, time.Minute)
	hints := watched(t, whole, acq.Holder)
	must(t, acq.Lease.Renew(t.Context(), whole.Now()))
	if v := look(t, New(srv.Client(t, as("reader")), "/k")); v.Holder.InstanceID != acq.Holder.InstanceID || v.Until == 0 {
		t.Errorf("a user who may read sees %+v", v)
	}
	// An owner whose rights are taken away has not lost the lease, but cannot renew it.
	_, err = root.UserRevokeRole(t.Context(), "whole", "whole")
	must(t, err)
	says(t, "Renew without rights", acq.Lease.Renew(t.Context(), whole.Now()), nil, "readwrite")
	_, err = root.UserGrantRole(t.Context(), "whole", "whole")
	must(t, err)
	must(t, acq.Lease.Renew(t.Context(), whole.Now()))
	must(t, acq.Lease.Release(context.Background()))
	eventually(t, hints, "a hint, with rights that had been away")
}

// An owner that loses its rights stops in time, and reports why.
func TestRightsLost(t *testing.T) {
	t.Parallel()
	srv := guarded(t, map[string]func(*clientv3.Client, string) error{"whole": right("/k", "/l", readWrite)})
	o := join(t, t.Context(), New(srv.Client(t, as("whole")), "/k"), func(c *owner.Config) { c.TTL = 8 * time.Second })
	_, err := srv.Client(t, as("root")).UserRevokeRole(t.Context(), "whole", "whole")
	must(t, err)
	eventually(t, o.Lost(), "lost")
	if err := o.LostErr(); !errors.Is(err, owner.ErrExpired) {
		t.Errorf("lost by %v", err)
	}
	says(t, "LostErr", o.LostErr(), owner.ErrExpired, "readwrite")
}

// A renewal does not authenticate anew, unless the server has forgotten the token.
func TestRenewWithPassword(t *testing.T) {
	t.Parallel()
	srv := guarded(t, map[string]func(*clientv3.Client, string) error{"whole": right("/k", "/l", readWrite)},
		"--auth-token-ttl=1") // a second
	l := newLine()
	c := srv.Client(t, as("whole"), l.intercept)
	s := New(c, "/k")
	acq := acquire(t, s, time.Minute)
	must(t, acq.Lease.Renew(t.Context(), s.Now()))
	before := l.count("authenticate")
	for range 20 {
		must(t, acq.Lease.Renew(t.Context(), s.Now()))
	}
	if n := l.count("authenticate") - before; n > 1 { // the machine may have stopped for a second
		t.Errorf("it has authenticated %d times in 20 renewals", n)
	}
	for l.count("authenticate") == before {
		time.Sleep(3 * time.Second) // the token is forgotten when it was not used for a while
		must(t, acq.Lease.Renew(t.Context(), s.Now()))
	}
	must(t, acq.Lease.Release(context.Background()))
}
