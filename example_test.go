package owner_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/ownerlease/owner"
)

func tempLease() (path string, remove func()) {
	dir, err := os.MkdirTemp("", "owner")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(dir, "gpu.lease"), func() { os.RemoveAll(dir) }
}

// One process owns the lease.
func ExampleJoin() {
	path, remove := tempLease()
	defer remove()

	o, err := owner.Join(context.Background(), owner.Config{LeasePath: path, TTL: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(o.Role(), o.IsOwner())
	fmt.Println(o.Release(), o.IsOwner())
	// Output:
	// owner true
	// <nil> false
}

// The others follow: they know who owns it and where to reach it.
func ExampleOwner_Endpoint() {
	path, remove := tempLease()
	defer remove()
	cfg := owner.Config{LeasePath: path, TTL: 10 * time.Second, Endpoint: "unix:/run/gpu.sock"}

	first, err := owner.Join(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Release()

	second, err := owner.Join(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(second.Role(), "of", second.Endpoint())
	fmt.Println(second.InstanceID() == first.InstanceID(), second.Epoch() == first.Epoch())
	// Output:
	// follower of unix:/run/gpu.sock
	// true true
}

// The owner stops when it loses the lease: here, because somebody has removed
// the lease file.
func ExampleOwner_Lost() {
	path, remove := tempLease()
	defer remove()

	o, err := owner.Join(context.Background(), owner.Config{LeasePath: path, TTL: 200 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	defer o.Release()
	os.Remove(path)

	work := time.NewTicker(10 * time.Millisecond)
	defer work.Stop()
	for {
		select {
		case <-work.C:
			if !o.IsOwner() { // before each step: it costs nanoseconds
				continue
			}
			// … touch the resource, passing o.Epoch() along …
		case <-o.Lost():
			fmt.Println("stopped:", o.IsOwner(), o.LostErr() != nil)
			return
		}
	}
	// Output: stopped: false true
}
