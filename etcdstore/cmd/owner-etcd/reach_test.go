package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v3"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ownerlease/owner/cmdline"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"github.com/ownerlease/owner/internal/cmdtest"
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
	if got := fmt.Sprint(l.Config.Store); got != "etcd key /k" {
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
		{[]string{"--dial-timeout", "1s", "--cacert", cert}, 125, "a certificate of the client"},
		{[]string{"--cacert", cert, "--cert", garbage, "--key-file", garbage}, 125, "cannot use --cacert, --cert or --key-file: "},
	} {
		_, stderr, code := cmdtest.ToItsEnd(t, cmdtest.Command(append([]string{"status", "--key", "/k", "--endpoints", at}, c.flags...)...))
		if code != c.code || !strings.Contains(stderr, c.says) || (c.says == "") != (stderr == "") {
			t.Errorf("%v: exit %d, want %d and %q on stderr: %s", c.flags, code, c.code, c.says, stderr)
		}
	}
	cmd := cmdtest.Command("status", "--key", "/k")
	cmd.Env = append(cmd.Env, "ETCDCTL_ENDPOINTS="+at, "ETCDCTL_CACERT="+cert, "ETCDCTL_CERT="+cert, "ETCDCTL_KEY="+key)
	if _, stderr, code := cmdtest.ToItsEnd(t, cmd); code != 3 {
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
		{"/other", []string{"--user", "worker"}, []string{"ETCDCTL_PASSWORD=w:1"}, 125, "readwrite /other /other.alivf"},
		{"/k", nil, nil, 125, "etcd wants a user"},
	} {
		cmd := s.command("run", c.key, append(c.flags, self("test-exit", "7")...)...)
		cmd.Env = append(cmd.Env, c.env...)
		_, stderr, code := cmdtest.ToItsEnd(t, cmd)
		if code != c.code || !strings.Contains(stderr, c.says) || (c.says == "") != (stderr == "") {
			t.Errorf("%v %v: exit %d, want %d and %q on stderr: %s", c.flags, c.env, code, c.code, c.says, stderr)
		}
	}
}
