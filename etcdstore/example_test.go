package etcdstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/etcdstore"
	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// From one machine to several: one line differs.
func Example() {
	client, folder, end := playground() // an etcd, and a folder, of this example
	defer end()

	onOneMachine := owner.Config{
		TTL:       10 * time.Second,
		Endpoint:  "tcp:gpu-1:4000",
		LeasePath: filepath.Join(folder, "gpu.lease"),
	}
	onSeveral := owner.Config{
		TTL:      10 * time.Second,
		Endpoint: "tcp:gpu-1:4000",
		Store:    etcdstore.New(client, "/leases/gpu"),
	}

	for _, cfg := range []owner.Config{onOneMachine, onSeveral} {
		err := owner.Run(context.Background(), cfg, func(_ context.Context, o *owner.Owner) error {
			follower, err := owner.Join(context.Background(), cfg)
			if err != nil {
				return err
			}
			fmt.Println("owns:", o.IsOwner(), "- the other goes to", follower.Endpoint())
			return nil
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// owns: true - the other goes to tcp:gpu-1:4000
	// owns: true - the other goes to tcp:gpu-1:4000
}

// A lease that moves from a file to etcd keeps its epochs growing: those of a file are
// milliseconds of the wall clock.
func ExampleEpochAbove() {
	client, folder, end := playground()
	defer end()

	path := filepath.Join(folder, "gpu.lease")
	before, err := owner.Join(context.Background(), owner.Config{TTL: 10 * time.Second, LeasePath: path})
	if err != nil {
		log.Fatal(err)
	}
	_ = before.Release() // no instance may own the old lease any more when the new one is joined

	last, err := owner.Inspect(path)
	if err != nil {
		log.Fatal(err)
	}
	store := etcdstore.New(client, "/leases/gpu", etcdstore.EpochAbove(last.Epoch))
	after, err := owner.Join(context.Background(), owner.Config{TTL: 10 * time.Second, Store: store})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("higher:", after.Epoch() > before.Epoch())
	_ = after.Release()
	// Output: higher: true
}

// playground starts an etcd.
func playground() (client *clientv3.Client, folder string, end func()) {
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	server, err := etcdtest.New(filepath.Join(folder, "etcd"))
	if err != nil {
		log.Fatal(errors.Join(err, os.RemoveAll(folder)))
	}
	client, err = clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	return client, folder, func() {
		_ = client.Close()
		server.Stop()
		_ = os.RemoveAll(folder)
	}
}
