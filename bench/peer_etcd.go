package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// etcdPeer campaigns in an Election: of etcd's two, the one that shows others who the
// leader is.
type etcdPeer struct {
	client   *clientv3.Client
	beats    *heartbeats
	name     string
	keep     bool
	session  *concurrency.Session
	election *concurrency.Election
}

func dialEtcd(addr string, opts ...grpc.DialOption) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialOptions: opts, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("reach etcd at %s: %w", addr, err)
	}
	return c, nil
}

func openEtcd(s spec) (*etcdPeer, error) {
	beats := new(heartbeats)
	c, err := dialEtcd(s.Addr, grpc.WithChainStreamInterceptor(beats.intercept))
	if err != nil {
		return nil, err
	}
	return &etcdPeer{client: c, beats: beats, name: s.Name, keep: s.Keep}, nil
}

func (p *etcdPeer) campaign(ctx context.Context) (err error) {
	if p.session == nil {
		if p.session, err = concurrency.NewSession(p.client, concurrency.WithTTL(int(ttl/time.Second))); err != nil {
			return fmt.Errorf("get a session: %w", err)
		}
	}
	p.election = concurrency.NewElection(p.session, p.name)
	return p.election.Campaign(ctx, fmt.Sprint("process ", os.Getpid()))
}

func (p *etcdPeer) release(ctx context.Context) error {
	if err := p.election.Resign(ctx); err != nil || p.keep {
		return err
	}
	session := p.session
	p.session = nil
	return session.Close()
}

func (p *etcdPeer) key() string { return p.election.Key() }

func (p *etcdPeer) views() []view {
	done := p.session.Done()
	alive := func() bool { return !closed(done) }
	leads := observe(p.election)
	return []view{{viewSession, alive}, {viewObserve, func() bool { return alive() && leads() }}}
}

// observe reports whether the leader, as Observe has last reported it, is the one of this
// election.
func observe(e *concurrency.Election) func() bool {
	var other atomic.Bool
	key := e.Key()
	leaders := e.Observe(context.Background())
	go func() {
		for leader := range leaders {
			other.Store(string(leader.Kvs[0].Key) != key)
		}
		other.Store(true) // no more reports come
	}()
	return func() bool { return !other.Load() }
}

func (p *etcdPeer) renew(ctx context.Context, n int) ([]time.Duration, error) {
	if err := p.campaign(ctx); err != nil {
		return nil, err
	}
	took := make([]time.Duration, n)
	for i := range took {
		time.Sleep(renewEvery)
		begun := time.Now()
		if _, err := p.client.KeepAliveOnce(ctx, p.session.Lease()); err != nil {
			return nil, err
		}
		took[i] = time.Since(begun)
	}
	return took, p.release(ctx)
}

func (p *etcdPeer) renewedAt() time.Duration { return time.Duration(p.beats.last.Load()) }

// heartbeats watches a session's renewals pass: which answer is to which request,
// as a stream keeps their order.
type heartbeats struct {
	last atomic.Int64 // when the last one that was answered was sent
}

func (h *heartbeats) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := next(ctx, desc, cc, method, opts...)
	if err != nil || method != "/etcdserverpb.Lease/LeaseKeepAlive" {
		return s, err
	}
	return &heartbeatStream{ClientStream: s, of: h}, nil
}

type heartbeatStream struct {
	grpc.ClientStream
	of *heartbeats

	mu   sync.Mutex
	sent []time.Duration // and not answered yet
}

func (s *heartbeatStream) SendMsg(m any) error {
	s.mu.Lock()
	s.sent = append(s.sent, clock.Now())
	s.mu.Unlock()
	return s.ClientStream.SendMsg(m)
}

func (s *heartbeatStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && len(s.sent) > 0 {
		if answer, ok := m.(*etcdserverpb.LeaseKeepAliveResponse); ok && answer.TTL > 0 {
			s.of.last.Store(int64(s.sent[0]))
		}
		s.sent = s.sent[1:]
	}
	return err
}
