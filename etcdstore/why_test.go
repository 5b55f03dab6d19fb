package etcdstore

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// certificates makes one in two files, for a server and its clients.
func certificates(t *testing.T) transport.TLSInfo {
	t.Helper()
	info, err := transport.SelfCert(zap.NewNop(), t.TempDir(), []string{"127.0.0.1:0"}, 1, x509.ExtKeyUsageClientAuth)
	must(t, err)
	return info
}

// trusting is a client's configuration, with the certificate of info or with none.
func trusting(t *testing.T, authority string, info transport.TLSInfo) *tls.Config {
	t.Helper()
	info = transport.TLSInfo{TrustedCAFile: authority, CertFile: info.CertFile, KeyFile: info.KeyFile}
	cfg, err := info.ClientConfig()
	must(t, err)
	return cfg
}

// Each error of a store that cannot reach etcd says why, also one of a call whose context
// has ended before.
func TestWhyUnreachable(t *testing.T) {
	t.Parallel()
	good, other := certificates(t), certificates(t)
	encrypted, plain := etcdtest.StartTLS(t, good.CertFile, good.KeyFile), etcdtest.Start(t)
	host := func(s *etcdtest.Server) string { _, h, _ := strings.Cut(s.Endpoint(), "://"); return h }
	for name, tc := range map[string]struct {
		endpoint string
		tls      *tls.Config
		says     []string
	}{
		"another authority":  {"https://" + host(encrypted), trusting(t, other.CertFile, good), []string{"unknown authority", "has to trust"}},
		"no certificate":     {"https://" + host(encrypted), trusting(t, good.CertFile, transport.TLSInfo{}), []string{"certificate of the client"}},
		"plain to encrypted": {"http://" + host(encrypted), nil, []string{"may expect TLS"}},
		"encrypted to plain": {"https://" + host(plain), trusting(t, good.CertFile, good), []string{"may not use TLS"}},
		"a refused port":     {"127.0.0.1:1", nil, []string{"connection refused"}},
		"an unknown host":    {"etcd.invalid:2379", nil, []string{"lookup etcd.invalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{tc.endpoint}, TLS: tc.tls, Logger: zap.NewNop()})
			must(t, err)
			t.Cleanup(func() { must(t, c.Close()) })
			s := New(c, "/k")
			for call, do := range map[string]func() error{
				"Look":    func() error { _, err := s.Look(t.Context()); return err },
				"Acquire": func() error { _, err := s.Acquire(t.Context(), claim(10*time.Second)); return err },
			} {
				// The first connections may not have failed yet, and what a server says of a
				// certificate that it misses can be lost with the connection.
				etcdtest.Await(t, "the reason", func() bool {
					err = do()
					return err != nil && strings.Contains(err.Error(), tc.says[0])
				})
				says(t, call, err, owner.ErrUnavailable, append(tc.says, "/k", tc.endpoint)...)
				if n := strings.Count(err.Error(), tc.says[0]); n != 1 {
					t.Errorf("it says %d times %s: %v", n, tc.says[0], err)
				}
			}
		})
	}
}

// Of several endpoints, each has its own reason.
func TestWhyEachIsUnreachable(t *testing.T) {
	t.Parallel()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1", "etcd.invalid:2379"}, Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	etcdtest.Await(t, "both reasons", func() bool {
		_, err = New(c, "/k").Look(t.Context())
		return err != nil && strings.Contains(err.Error(), "; ")
	})
	says(t, "Look", err, owner.ErrUnavailable, "127.0.0.1:1: dial tcp", "connection refused; etcd.invalid:2379: ", "lookup etcd.invalid")
}
