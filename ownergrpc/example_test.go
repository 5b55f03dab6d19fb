package ownergrpc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownergrpc"
)

// The owner serves, and a client reaches it, whichever process that is.
func Example() {
	dir, err := os.MkdirTemp("", "owner")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cfg := owner.Config{LeasePath: filepath.Join(dir, "gpu.lease"), TTL: 10 * time.Second}
	ctx, stop := context.WithCancel(context.Background()) // signal.NotifyContext in a service
	defer stop()

	ended := make(chan error, 1)
	go func() {
		ended <- owner.Run(ctx, cfg, func(ctx context.Context, o *owner.Owner) error {
			return serve(ctx, o, filepath.Join(dir, o.InstanceID()[:8]))
		})
	}()

	conn, err := grpc.NewClient(ownergrpc.Target(cfg.LeasePath),
		grpc.WithResolvers(ownergrpc.NewResolver()),
		grpc.WithUnaryInterceptor(ownergrpc.UnaryClientInterceptor(ownergrpc.Retry{
			Idempotent: func(method string) bool { return method == healthpb.Health_Check_FullMethodName },
		})),
		grpc.WithStreamInterceptor(ownergrpc.StreamClientInterceptor()),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Status)

	stop()
	fmt.Println(errors.Is(<-ended, context.Canceled))
	// Output:
	// SERVING
	// true
}

// serve serves while o owns, and drains before the lease is released.
func serve(ctx context.Context, o *owner.Owner, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	server := grpc.NewServer(
		grpc.UnaryInterceptor(ownergrpc.UnaryServerInterceptor(o)),
		grpc.StreamInterceptor(ownergrpc.StreamServerInterceptor(o)))
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer context.AfterFunc(o.Context(), server.Stop)() // at a loss
	defer context.AfterFunc(ctx, server.GracefulStop)() // at the service's end
	if err := o.Advertise(ctx, "unix:"+socket, nil); err != nil {
		return err
	}
	return server.Serve(listener) // until it has stopped
}
