// Command modeld serves a counter, in the place of a model in GPU memory: each copy of it
// listens at an address of its own, one of them owns the model, and handles the requests
// of all. Start as many as you like, and kill any:
//
//	modeld -lease /tmp/modeld.lease -listen 127.0.0.1:8001 &
//	modeld -lease /tmp/modeld.lease -listen 127.0.0.1:8002 &
//	curl -d 1 http://127.0.0.1:8002/add
//
// An address that begins with a slash is a Unix socket, for curl --unix-socket.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/reach"
)

func main() {
	lease := flag.String("lease", "", "the lease's `file`, which the copies share; the counter is kept beside it")
	listen := flag.String("listen", "127.0.0.1:0", "the `address` of this copy")
	idle := flag.Duration("idle", 0, "step down and end after so long without a request, where this copy owns; 0: never")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *lease, *listen, *idle); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// run serves until ctx ends. All that is about ownership is in the Node.
func run(ctx context.Context, lease, listen string, idle time.Duration) error {
	client := &reach.Client{}
	defer client.Close()
	node := &reach.Node{
		Client: client,
		Config: owner.Config{LeasePath: lease, TTL: 5 * time.Second},
		Server: &reach.Server{
			Idle: idle,
			// After the election: nothing is loaded twice, and no request comes before.
			Prepare: func(context.Context, *owner.Owner) (http.Handler, error) { return loadModel(lease + ".count") },
		},
	}
	ln, err := listenAt(listen)
	if err != nil {
		return err
	}
	front := &http.Server{Handler: node.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go front.Serve(ln)
	defer front.Close()
	fmt.Println("listening at", ln.Addr())
	err = node.Run(ctx)
	// What this copy forwards at its end is answered, too.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, front.Shutdown(ending))
}

func listenAt(addr string) (net.Listener, error) {
	if strings.HasPrefix(addr, "/") {
		return net.Listen("unix", addr)
	}
	return net.Listen("tcp", addr)
}

// A model is what only one process may touch.
type model struct {
	path string

	mu    sync.Mutex
	count int
}

func loadModel(path string) (http.Handler, error) {
	m := &model{path: path}
	b, err := os.ReadFile(path)
	if err == nil {
		m.count, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /count", m.get)
	mux.HandleFunc("POST /add", m.add)
	return mux, nil
}

func (m *model) get(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintln(w, m.count, "from process", os.Getpid())
}

// add answers when the sum is on disk.
func (m *model) add(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, 20))
	n, cerr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err = errors.Join(err, cerr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := os.WriteFile(m.path+".new", []byte(strconv.Itoa(m.count+n)), 0o600); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if err := os.Rename(m.path+".new", m.path); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	m.count += n
	fmt.Fprintln(w, m.count, "from process", os.Getpid())
}
