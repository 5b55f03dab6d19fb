// Package etcdtest runs etcd for tests, each member in a separate process.
package etcdtest

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// limit is how long a server may take to start, or a client to reach it: it only
// ends a hang.
const limit = time.Minute

// Server is an etcd of one member.
type Server struct {
	flags   []string
	scheme  string
	address string
	etcd    *process // nil while it is stopped
}

// Start starts a server on a port of the kernel's choice, and stops it when the test
// ends. See New.
func Start(tb testing.TB, flags ...string) *Server {
	tb.Helper()
	s, err := New(tb.TempDir(), flags...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// StartTLS is Start for a server that wants a client's certificate: the one that it has
// itself.
func StartTLS(tb testing.TB, cert, key string) *Server {
	tb.Helper()
	s := &Server{scheme: "https", address: anyPort, flags: append(settings(tb.TempDir()),
		"--cert-file="+cert, "--key-file="+key, "--trusted-ca-file="+cert, "--client-cert-auth")}
	if err := s.start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// New starts a server with its data in dir; the caller stops it. It does not sync its disk,
// and its election timeout is a tenth of etcd's default, so that it grants leases of a
// second; flags of etcd(1) can change that.
func New(dir string, flags ...string) (*Server, error) {
	s := &Server{scheme: "http", address: anyPort, flags: append(settings(dir), flags...)}
	return s, s.start()
}

const anyPort = "127.0.0.1:0"

func settings(dir string) []string {
	const peers = "http://" + anyPort
	return []string{
		"--data-dir=" + dir, "--heartbeat-interval=10", "--election-timeout=100", "--unsafe-no-fsync",
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=default=" + peers,
	}
}

// Defaults makes the server sync its disk and hold elections as etcd does by default: for
// measuring times.
var Defaults = []string{"--unsafe-no-fsync=false", "--heartbeat-interval=100", "--election-timeout=1000"}

// Start starts a server that was stopped, with the data and the port that it had. It panics
// if it cannot.
func (s *Server) Start() {
	if err := s.start(); err != nil {
		panic(err)
	}
}

func (s *Server) start() error {
	url := s.Endpoint()
	etcd, err := launch(append(s.flags[:len(s.flags):len(s.flags)], "--listen-client-urls="+url, "--advertise-client-urls="+url)...)
	if err != nil {
		return err
	}
	address, err := etcd.await(etcd.client)
	if err != nil {
		etcd.kill()
		return err
	}
	s.etcd, s.address = etcd, address
	return nil
}

// Stop stops the server. It keeps its data.
func (s *Server) Stop() {
	if s.etcd != nil {
		s.etcd.end()
		s.etcd = nil
	}
}

// Endpoint is where clients reach the server, also after it was started again.
func (s *Server) Endpoint() string { return s.scheme + "://" + s.address }

// Client returns a client that is closed when the test ends.
func (s *Server) Client(tb testing.TB, opts ...func(*clientv3.Config)) *clientv3.Client {
	tb.Helper()
	return Dial(tb, s.Endpoint(), opts...)
}

// Dial returns a client that is closed when the test ends.
func Dial(tb testing.TB, endpoint string, opts ...func(*clientv3.Config)) *clientv3.Client {
	tb.Helper()
	cfg := clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: limit, Logger: zap.NewNop()}
	for _, opt := range opts {
		opt(&cfg)
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		tb.Fatalf("reach etcd: %v", err)
	}
	tb.Cleanup(func() { _ = c.Close() }) // a test may have closed it
	return c
}
