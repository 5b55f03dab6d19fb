package reach_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
	"github.com/ownerlease/owner/reach"
	"github.com/ownerlease/owner/start"
)

// The owner serves; who has its lease reaches it, wherever it listens.
func Example() {
	store := ownertest.NewMemory() // stands for a file, which processes share
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from the owner") })

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- owner.Run(ctx, owner.Config{Store: store, TTL: 10 * time.Second}, (&reach.Server{Handler: hello}).Serve)
	}()

	c := &reach.Client{Store: store}
	defer c.Close()
	resp, err := (&http.Client{Transport: c}).Get("http://owner/")
	if err != nil {
		log.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	fmt.Println(string(b))
	stop()
	<-done
	// Output: hello from the owner
}

// A service that one process of a machine provides, and that is stopped by a signal: it
// answers what has begun, and another goes on.
func ExampleServer() {
	serve := func(ctx context.Context, path string, model http.Handler) error {
		s := &reach.Server{
			Prepare: func(ctx context.Context, o *owner.Owner) (http.Handler, error) {
				return model, nil // load it here: clients wait
			},
			Drain: 30 * time.Second,
			Idle:  time.Hour,
		}
		return owner.Run(ctx, owner.Config{LeasePath: path, TTL: 10 * time.Second}, s.Serve)
	}
	_ = serve
}

func ExampleClient() {
	ask := func(ctx context.Context, path string) error {
		c := &reach.Client{LeasePath: path, Hold: 5 * time.Second}
		defer c.Close()
		req, err := http.NewRequestWithContext(ctx, "POST", "http://owner/jobs", strings.NewReader("a job"))
		if err != nil {
			return err
		}
		req.Header.Set("Idempotency-Key", "job-1") // the handler knows it, if it comes twice
		resp, err := (&http.Client{Transport: c}).Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	_ = ask
}

// A server that is started by the first request, and steps down when it has been idle.
func ExampleClient_start() {
	client := func(path string) *http.Client {
		return &http.Client{Transport: &reach.Client{
			LeasePath: path,
			Start:     &start.Command{Path: "modeld", Args: []string{path}, Log: path + ".log"},
		}}
	}
	modeld := func(ctx context.Context, path string, model http.Handler) error { // the program
		s := &reach.Server{Handler: model, Idle: 10 * time.Minute}
		return owner.Run(ctx, owner.Config{LeasePath: path, TTL: 10 * time.Second}, s.Serve)
	}
	_, _ = client, modeld
}

// Each copy of the program serves a port of its own; one of them owns, and handles the
// requests of all.
func ExampleNode() {
	serve := func(ctx context.Context, addr, path string, h http.Handler) error {
		n := &reach.Node{
			Config: owner.Config{LeasePath: path, TTL: 10 * time.Second},
			Server: &reach.Server{Handler: h},
		}
		go http.ListenAndServe(addr, n.Handler())
		return n.Run(ctx)
	}
	_ = serve
}
