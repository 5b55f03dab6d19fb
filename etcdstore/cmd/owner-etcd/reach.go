package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v3"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/status"

	"github.com/ownerlease/owner"
)

// A reached is a client, and why it does not reach etcd at present: the client itself
// reports only a timeout.
type reached struct {
	client *clientv3.Client

	mu  sync.Mutex
	why string // of the first failure in a row, as one of several endpoints may have another
}

// reach makes the client that the flags ask for. It talks to etcd only to log in.
func reach(c *cli.Command) (*reached, error) {
	spec, err := clientSpec(c)
	if err != nil {
		return nil, err
	}
	cfg, err := clientv3.NewClientConfig(spec, zap.NewNop())
	if err != nil {
		return nil, fmt.Errorf("cannot use --cacert, --cert or --key-file: %w", err)
	}
	r := &reached{}
	cfg.Logger = zap.NewNop()
	// By default, a connection that has failed for long is tried again every two minutes.
	again := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}
	cfg.DialOptions = []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: spec.DialTimeout}),
		grpc.WithChainUnaryInterceptor(r.listen),
	}
	if r.client, err = clientv3.New(*cfg); err != nil {
		return nil, r.explain(fmt.Errorf("cannot log in to etcd: %w", err))
	}
	return r, nil
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

// listen records why a call has not reached etcd, before the client forgets it.
func (r *reached) listen(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := call(ctx, method, req, reply, conn, opts...)
	_, why, found := strings.Cut(status.Convert(err).Message(), "latest balancer error: ")
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.why = ""
	case found && r.why == "":
		r.why = why
	}
	return err
}

// explain adds the recorded reason to an error that lacks it.
func (r *reached) explain(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || r.why == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, r.why)
}

// An explained store adds the reason to its errors of unavailability.
type explained struct {
	owner.Store
	reached *reached
}

func (s *explained) Acquire(ctx context.Context, claim owner.Record) (owner.Acquisition, error) {
	acq, err := s.Store.Acquire(ctx, claim)
	return acq, s.explain(err)
}

func (s *explained) Look(ctx context.Context) (owner.View, error) {
	view, err := s.Store.Look(ctx)
	return view, s.explain(err)
}

func (s *explained) RequestHandover(ctx context.Context, holder, successor string) error {
	return s.explain(s.Store.(owner.HandoverStore).RequestHandover(ctx, holder, successor))
}

func (s *explained) explain(err error) error {
	if errors.Is(err, owner.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		err = s.reached.explain(err)
	}
	return err
}

func (s *explained) String() string { return fmt.Sprint(s.Store) }
