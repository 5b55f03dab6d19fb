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

// Campaign waits until this process owns.
func ExampleCampaign() {
	path, remove := tempLease()
	defer remove()
	ctx := context.Background() // its end bounds the wait, and the renewals after it

	first, err := owner.Join(ctx, owner.Config{LeasePath: path, TTL: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, func() { first.Release() })

	next, err := owner.Campaign(ctx, owner.Config{LeasePath: path, TTL: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	defer next.Release()
	fmt.Println("owner:", next.IsOwner(), "with a higher epoch:", next.Epoch() > first.Epoch())
	// Output:
	// owner: true with a higher epoch: true
}

// Probe is for tools: it joins nothing, and says whether the owner is alive.
func ExampleProbe() {
	path, remove := tempLease()
	defer remove()
	cfg := owner.Config{LeasePath: path, TTL: 10 * time.Second, Endpoint: "unix:/run/gpu.sock"}
	o, err := owner.Join(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}

	show := func() {
		status, err := owner.Probe(path)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status.Condition, status.Record.Meta[owner.EndpointMetaKey])
	}
	show()
	o.Release()
	show()
	// Output:
	// live unix:/run/gpu.sock
	// released unix:/run/gpu.sock
}

// Revoke takes the lease away from its owner, and waits until that has stopped.
func ExampleRevoke() {
	path, remove := tempLease()
	defer remove()
	ctx := context.Background()
	o, err := owner.Join(ctx, owner.Config{LeasePath: path, TTL: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		<-o.Lost() // stop the work, and say so
		o.Release()
	}()

	if _, err := owner.Revoke(ctx, path); err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(o.LostErr(), owner.ErrRevoked))
	// Output:
	// true
}

// A store in place of a path: what is written for one works with every other.
func ExampleFileStore() {
	path, remove := tempLease()
	defer remove()
	store, err := owner.FileStore(path) // or a store of another kind, as of module etcdstore
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	o, err := owner.Join(ctx, owner.Config{Store: store, TTL: 10 * time.Second, Endpoint: "unix:/run/gpu.sock"})
	if err != nil {
		log.Fatal(err)
	}
	defer o.Release()

	for rec, err := range owner.WatchStore(ctx, store) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(rec.Meta[owner.EndpointMetaKey])
		break
	}
	// Output:
	// unix:/run/gpu.sock
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
