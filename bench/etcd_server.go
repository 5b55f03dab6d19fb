package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// startEtcd starts a server with etcd's own defaults, but for its folder, its
// ports and its logs.
func startEtcd(dir string) (*embed.Etcd, error) {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	free := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{free}, []url.URL{free}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{free}, []url.URL{free}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case <-time.After(trialLimit):
		server.Close()
		return nil, errors.New("etcd is not ready after a minute")
	}
}

// removeKey deletes a key behind its owner's back, and returns when.
func removeKey(ctx context.Context, addr, key string) (at time.Duration, err error) {
	c, err := dialEtcd(addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Get(ctx, key); err != nil { // connected from here on
		return 0, err
	}
	at = clock.Now()
	deleted, err := c.Delete(ctx, key)
	if err == nil && deleted.Deleted != 1 {
		err = fmt.Errorf("etcd has no key %q", key)
	}
	return at, err
}
