package metrics_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/metrics"
	"github.com/ownerlease/owner/ownertest"
)

// A service that is monitored: two lines more than one that is not.
func ExampleHandler() {
	ctx, stop := context.WithCancel(context.Background())
	cfg := owner.Config{Store: ownertest.NewMemory(), TTL: 10 * time.Second} // or a LeasePath

	lease := metrics.NewLease("gpu")
	http.Handle("/metrics", metrics.Handler(lease))
	_ = owner.Run(ctx, cfg, func(ctx context.Context, o *owner.Owner) error {
		lease.Observe(o)
		show("owner_is_owner")
		stop() // the work ends
		return nil
	})
	show("owner_is_owner")
	// Output:
	// owner_is_owner{lease="gpu"} 1
	// owner_is_owner{lease="gpu"} 0
}

// show scrapes the service, and prints some of the metrics.
func show(prefix string) {
	w := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, prefix) {
			fmt.Print(line)
		}
	}
}

// A Lease adds up what the Owners of a process do, one after another.
func ExampleLease() {
	store := ownertest.NewMemory()
	lease := metrics.NewLease("gpu")
	for range 3 {
		o, err := owner.Join(context.Background(), owner.Config{Store: store, TTL: 10 * time.Second})
		if err != nil {
			log.Fatal(err)
		}
		lease.Observe(o)
		o.Release()
	}
	lease.Collect(func(s metrics.Sample) {
		if s.Name == "owner_ownerships" {
			fmt.Println(s.Name, s.Value)
		}
	})
	// Output: owner_ownerships 3
}
