package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An authority makes certificates that etcd reads from files. The curve is the cheapest:
// etcd's own certificates keep a small machine busy.
type authority struct {
	file     string
	template *x509.Certificate
	key      *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, dir string) *authority {
	t.Helper()
	a := &authority{
		file: filepath.Join(dir, "ca.cert"), key: newKey(t),
		template: &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: tomorrow()},
	}
	writePEM(t, a.file, "CERTIFICATE", a.sign(t, a.template, a.key))
	return a
}

// A certificate is that of one member: for its connections to others, and, for the
// proxies in front of it, for those of others to it.
type certificate struct {
	cert, key string // files
	pair      tls.Certificate
}

// certify makes a certificate for a name, in files that begin with path.
func (a *authority) certify(t testing.TB, name, path string) certificate {
	t.Helper()
	key := newKey(t)
	cert := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: tomorrow(), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, key)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{cert: path + ".cert", key: path + ".key", pair: tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}}
	writePEM(t, c.cert, "CERTIFICATE", cert)
	writePEM(t, c.key, "PRIVATE KEY", secret)
	return c
}

func (a *authority) sign(t testing.TB, c *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	cert, err := x509.CreateCertificate(rand.Reader, c, a.template, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

func writePEM(t testing.TB, file, kind string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
		t.Fatal(err)
	}
}
