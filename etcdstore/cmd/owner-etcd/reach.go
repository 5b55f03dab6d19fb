package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore"
)

// reach makes the client that the flags ask for. It talks to etcd only to log in.
func reach(c *cli.Command) (*clientv3.Client, error) {
	spec, err := clientSpec(c)
	if err != nil {
		return nil, err
	}
	cfg, err := clientv3.NewClientConfig(spec, zap.NewNop())
	if err != nil {
		return nil, fmt.Errorf("cannot use --cacert, --cert or --key-file: %w", err)
	}
	cfg.Logger = zap.NewNop()
	// By default, a connection that has failed for long is tried again every two minutes.
	again := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}
	cfg.DialOptions = []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: spec.DialTimeout}),
	}
	client, err := clientv3.New(*cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot log in to etcd: %w", unreached(*cfg, err))
	}
	return client, nil
}

// unreached returns why etcd cannot be reached to log in, where that is so: the client
// reports only that the time is up. A request without a login says more.
func unreached(cfg clientv3.Config, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cfg.Username, cfg.Password = "", ""
	client, failed := clientv3.New(cfg)
	if failed != nil {
		return err
	}
	defer client.Close()
	if _, why := etcdstore.New(client, "any").Look(context.Background()); errors.Is(why, owner.ErrUnavailable) {
		return fmt.Errorf("%w: %w", err, why)
	}
	return err
}

func clientSpec(c *cli.Command) (*clientv3.ConfigSpec, error) {
	spec := &clientv3.ConfigSpec{
		DialTimeout: c.Duration("dial-timeout"),
		// A ping, or data without an acknowledgement, detects a member that has gone
		// silently. gRPC allows no more pings than this.
		KeepAliveTime: 10 * time.Second, KeepAliveTimeout: 2 * time.Second,
		Secure: &clientv3.SecureConfig{
			Cacert: c.String("cacert"), Cert: c.String("cert"), Key: c.String("key-file"),
			InsecureTransport: true, // unless there are certificates, or an endpoint is https
		},
	}
	if spec.DialTimeout <= 0 {
		return nil, fmt.Errorf("--dial-timeout %v is not positive", spec.DialTimeout)
	}
	for e := range strings.SplitSeq(c.String("endpoints"), ",") {
		if e = strings.TrimSpace(e); e != "" {
			spec.Endpoints = append(spec.Endpoints, e)
		}
	}
	if err := mistake(spec); err != nil {
		return nil, err
	}
	name, password, ok := strings.Cut(c.String("user"), ":")
	if !ok {
		password = os.Getenv("ETCDCTL_PASSWORD")
	}
	if name != "" && password == "" {
		return nil, fmt.Errorf("--user %s needs a password in ETCDCTL_PASSWORD", name)
	}
	if name != "" {
		spec.Auth = &clientv3.AuthConfig{Username: name, Password: password}
	}
	return spec, nil
}

// mistake refuses a configuration that the client would accept, but understand in another
// way.
func mistake(spec *clientv3.ConfigSpec) error {
	tls := *spec.Secure != clientv3.SecureConfig{InsecureTransport: true}
	plain := ""
	for _, e := range spec.Endpoints {
		switch {
		case strings.HasPrefix(e, "http://"):
			plain = e
		case strings.HasPrefix(e, "https://"):
			tls = true
		}
	}
	switch {
	case len(spec.Endpoints) == 0:
		return errors.New("--endpoints has no address")
	case (spec.Secure.Cert == "") != (spec.Secure.Key == ""):
		return errors.New("--cert and --key-file need each other")
	case tls && plain != "":
		return fmt.Errorf("the endpoint %s would not be encrypted, and the rest is to be", plain)
	}
	return nil
}
