package main

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v3"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ownerlease/owner/cmdline"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
)

// opened is the lease that the flags name.
func opened(t *testing.T, args ...string) *cmdline.Lease {
	t.Helper()
	var l *cmdline.Lease
	c := &cli.Command{Flags: flags(), Action: func(_ context.Context, c *cli.Command) (err error) {
		l, err = open(c)
		return err
	}}
	if err := c.Run(t.Context(), append([]string{"owner-etcd"}, args...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestOpen(t *testing.T) {
	t.Parallel()
	l := opened(t, "--key", "/k", "--endpoints", "a:1, b:2,", "--dial-timeout", "7s")
	if l.Name != "/k" || !l.CountsSuspend || l.Patience != 7*time.Second {
		t.Errorf("%+v", l)
	}
	s := l.Config.Store.(*explained)
	if got := s.reached.client.Endpoints(); len(got) != 2 || got[0] != "a:1" || got[1] != "b:2" {
		t.Errorf("the endpoints are %q", got)
	}
	if got := s.String(); got != "etcd key /k" {
		t.Errorf("it is called %s", got)
	}
}

// withTLS starts a server that wants certificates, and returns the files of the one
// that both sides have.
func withTLS(t *testing.T) (s server, cert, key string) {
	t.Helper()
	info, err := transport.SelfCert(zap.NewNop(), t.TempDir(), []string{"127.0.0.1:0"}, 1, x509.ExtKeyUsageClientAuth)
	if err != nil {
		t.Fatal(err)
	}
	s = server{etcdtest.StartTLS(t, info.CertFile, info.KeyFile), t}
	return s, info.CertFile, info.KeyFile
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s, cert, key := withTLS(t)
	at := s.Endpoint()
	other, err := transport.SelfCert(zap.NewNop(), t.TempDir(), []string{"127.0.0.1:0"}, 1, x509.ExtKeyUsageClientAuth)
	if err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags []string
		code  int
		says  string
	}{
		{[]string{"--cacert", cert, "--cert", cert, "--key-file", key}, 3, ""},
		{[]string{"--dial-timeout", "1s", "--cert", cert, "--key-file", key}, 125, "unknown authority"},
		{[]string{"--dial-timeout", "1s", "--cacert", other.CertFile, "--cert", cert, "--key-file", key}, 125, "unknown authority"},
		{[]string{"--dial-timeout", "3s", "--cacert", cert}, 125, "no answer"}, // why, can be cut off,
		{[]string{"--cacert", cert, "--cert", garbage, "--key-file", garbage}, 125, "cannot use --cacert, --cert or --key-file: "},
	} {
		_, stderr, code := toItsEnd(t, command(append([]string{"status", "--key", "/k", "--endpoints", at}, c.flags...)...))
		if code != c.code || !strings.Contains(stderr, c.says) || (c.says == "") != (stderr == "") {
			t.Errorf("%v: exit %d, want %d and %q on stderr: %s", c.flags, code, c.code, c.says, stderr)
		}
	}
	cmd := command("status", "--key", "/k")
	cmd.Env = append(cmd.Env, "ETCDCTL_ENDPOINTS="+at, "ETCDCTL_CACERT="+cert, "ETCDCTL_CERT="+cert, "ETCDCTL_KEY="+key)
	if _, stderr, code := toItsEnd(t, cmd); code != 3 {
		t.Errorf("by the environment: exit %d: %s", code, stderr)
	}
}

// withUser starts a server that requires a user, who may use only the lease /k.
func withUser(t *testing.T) server {
	t.Helper()
	s := server{etcdtest.Start(t, "--bcrypt-cost=4"), t} // a log-in is to be quick
	c := s.Client(t)
	for _, err := range []error{
		second(c.RoleAdd(t.Context(), "root")),
		second(c.UserAdd(t.Context(), "root", "r")),
		second(c.UserGrantRole(t.Context(), "root", "root")),
		second(c.RoleAdd(t.Context(), "leases")),
		second(c.RoleGrantPermission(t.Context(), "leases", "/k", "/k.alivf", clientv3.PermissionType(clientv3.PermReadWrite))),
		second(c.UserAdd(t.Context(), "worker", "w:1")),
		second(c.UserGrantRole(t.Context(), "worker", "leases")),
		second(c.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func second[T any](_ T, err error) error { return err }

func TestUser(t *testing.T) {
	t.Parallel()
	s := withUser(t)
	for _, c := range []struct {
		key   string
		flags []string
		env   []string
		code  int
		says  string
	}{
		{"/k", nil, []string{"ETCDCTL_USER=worker", "ETCDCTL_PASSWORD=w:1"}, 7, ""},
		{"/k", []string{"--user", "worker"}, []string{"ETCDCTL_PASSWORD=w:1"}, 7, ""},
		{"/k", nil, []string{"ETCDCTL_USER=worker:w:1", "ETCDCTL_PASSWORD=not used"}, 7, ""},
		{"/k", []string{"--user", "worker"}, []string{"ETCDCTL_PASSWORD=wrong"}, 125, "cannot log in to etcd: "},
		{"/other", []string{"--user", "worker"}, []string{"ETCDCTL_PASSWORD=w:1"}, 125, `"/other.alive`},
		{"/k", nil, nil, 125, "etcd wants a user"},
	} {
		cmd := s.command("run", c.key, append(c.flags, self("test-exit", "7")...)...)
		cmd.Env = append(cmd.Env, c.env...)
		_, stderr, code := toItsEnd(t, cmd)
		if code != c.code || !strings.Contains(stderr, c.says) || (c.says == "") != (stderr == "") {
			t.Errorf("%v %v: exit %d, want %d and %q on stderr: %s", c.flags, c.env, code, c.code, c.says, stderr)
		}
	}
}

// Of several endpoints, each may fail in its own way: the message stays the same until
// etcd is reached again.
func TestWhy(t *testing.T) {
	t.Parallel()
	r, boom := &reached{}, errors.New("boom")
	for _, c := range []struct {
		says error
		want string
	}{
		{nil, "boom"},
		{status.Error(codes.DeadlineExceeded, "time is up; latest balancer error: first"), "boom: first"},
		{status.Error(codes.DeadlineExceeded, "time is up; latest balancer error: second"), "boom: first"},
		{status.Error(codes.Unavailable, "no leader"), "boom: first"},
		{nil, "boom"},
		{status.Error(codes.DeadlineExceeded, "time is up; latest balancer error: second"), "boom: second"},
	} {
		call := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return c.says }
		if err := r.listen(t.Context(), "", nil, nil, nil, call); err != c.says {
			t.Errorf("%v has become %v", c.says, err)
		}
		if err := r.explain(boom); err.Error() != c.want || !errors.Is(err, boom) {
			t.Errorf("after %v: %v, want %s", c.says, err, c.want)
		}
	}
	if err := r.explain(nil); err != nil {
		t.Errorf("%v", err)
	}
}
