package owner_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
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

// The owner stops when it loses the lease: here, because a user has removed
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

// A standby takes over the moment the owner is gone.
func ExampleConfig_standby() {
	path, remove := tempLease()
	defer remove()
	cfg := owner.Config{LeasePath: path, TTL: 10 * time.Second, Standby: true}

	first, err := owner.Join(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	second, err := owner.Join(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Release()
	fmt.Println("second:", second.Role())

	if err := first.Release(); err != nil {
		log.Fatal(err)
	}
	<-second.Elected()
	fmt.Println("second:", second.Role(), second.Epoch() > first.Epoch())
	// Output:
	// second: follower
	// second: owner true
}

// Run does the work only while it owns, and releases the lease when the work has wound
// down.
func ExampleRun() {
	path, remove := tempLease()
	defer remove()
	ctx, stop := context.WithCancel(context.Background()) // signal.NotifyContext in a service
	defer stop()

	cfg := owner.Config{LeasePath: path, TTL: 10 * time.Second, Endpoint: "unix:/run/gpu.sock"}
	err := owner.Run(ctx, cfg, func(ctx context.Context, o *owner.Owner) error {
		fmt.Println("serving at", o.Endpoint())
		stop() // the service is to end
		<-ctx.Done()
		fmt.Println("winding down, still the owner:", o.IsOwner())
		return nil
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// serving at unix:/run/gpu.sock
	// winding down, still the owner: true
	// true
}

// Only to know where the owner is.
func ExampleWatch() {
	path, remove := tempLease()
	defer remove()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	o, err := owner.Join(ctx, owner.Config{LeasePath: path, TTL: 10 * time.Second, Endpoint: "unix:/run/gpu.sock"})
	if err != nil {
		log.Fatal(err)
	}
	for rec, err := range owner.Watch(ctx, path) {
		switch {
		case err != nil:
			log.Fatal(err)
		case rec.InstanceID != "":
			fmt.Println("owned, at", rec.Meta[owner.EndpointMetaKey])
			o.Release()
		default:
			fmt.Println("it has no owner")
			stop()
		}
	}
	// Output:
	// owned, at unix:/run/gpu.sock
	// it has no owner
}

// A health check for a load balancer: only the owner is to get requests.
func ExampleOwner_Check() {
	path, remove := tempLease()
	defer remove()
	o, err := owner.Join(context.Background(), owner.Config{LeasePath: path, TTL: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	healthz := func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "owner")
	}

	get := func() {
		w := httptest.NewRecorder()
		healthz(w, httptest.NewRequest("GET", "/healthz", nil))
		fmt.Print(w.Code, " ", w.Body)
	}
	get()
	o.Release()
	get()
	// Output:
	// 200 owner
	// 503 owner: lease released
}
