// Package etcdtest runs etcd in the process of a test.
package etcdtest

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// limit is how long a server may take to start, or a client to reach it: it only
// ends a hang.
const limit = time.Minute

// Server is an etcd of one member.
type Server struct {
	opts   []func(*embed.Config)
	dir    string
	listen url.URL
	etcd   *embed.Etcd // nil while it is stopped
}

// Start starts a server on a port of the kernel's choice, and stops it when the test
// ends. See New.
func Start(tb testing.TB, opts ...func(*embed.Config)) *Server {
	tb.Helper()
	s, err := New(tb.TempDir(), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// New starts a server with its data in dir; the caller stops it. It does not sync its disk,
// and its election timeout is a tenth of etcd's default, so that it grants leases of a
// second; opts can change that.
func New(dir string, opts ...func(*embed.Config)) (*Server, error) {
	s := &Server{opts: opts, dir: dir, listen: url.URL{Scheme: "http", Host: "127.0.0.1:0"}}
	return s, s.start()
}

// Defaults has the server sync its disk and hold elections as etcd does by default: for
// whoever measures times.
func Defaults(cfg *embed.Config) {
	cfg.UnsafeNoFsync = false
	cfg.TickMs, cfg.ElectionMs = 100, 1000
}

// Start starts a server that was stopped, with the data and the port that it had. It panics
// if it cannot.
func (s *Server) Start() {
	if err := s.start(); err != nil {
		panic(err)
	}
}

func (s *Server) start() error {
	cfg := embed.NewConfig()
	cfg.Dir = s.dir
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true
	peers := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{s.listen}, []url.URL{s.listen}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	for _, opt := range s.opts {
		opt(cfg)
	}
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	s.etcd, s.listen.Host = etcd, etcd.Clients[0].Addr().String()
	select {
	case <-etcd.Server.ReadyNotify():
		return nil
	case <-time.After(limit):
		s.Stop()
		return fmt.Errorf("etcd is not ready after %v", limit)
	}
}

// Stop stops the server. It keeps its data.
func (s *Server) Stop() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
}

// Endpoint is where clients reach the server, also after it was started again.
func (s *Server) Endpoint() string { return s.listen.String() }

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
