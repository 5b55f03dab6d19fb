package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/reach"
)

// A task is a worker's configuration, in its environment.
type task struct {
	Worker  string // its name
	Lease   string // the path
	Journal string
	Address string        // of TCP, where it listens as the owner; "" listens by default
	Node    bool          // it has a port of its own, and forwards
	Load    time.Duration // how long it takes until it can serve
	Moves   bool          // as the owner, it advertises anew from time to time
	System  string        // of the comparison: how it serves
}

const (
	ttl     = 500 * time.Millisecond
	margin  = 150 * time.Millisecond
	drain   = 3 * time.Second
	hold    = 10 * time.Second
	unwell  = ttl // how long a work is unhealthy that is told to be
	patient = 5 * time.Second
)

// The headers of an answer say who has answered.
const (
	headerBy    = "Calls-Instance"
	headerEpoch = "Calls-Epoch"
	headerGot   = "Calls-Got" // how many bytes of the request's body have arrived
)

// workIfStarted makes this process a worker, if the director has started it as one, and
// then does not return. It must come first in main.
func workIfStarted() {
	env := os.Getenv(taskEnv)
	if env == "" {
		return
	}
	w := &worker{}
	err := json.Unmarshal([]byte(env), &w.task)
	if err == nil {
		w.journal, err = openJournal(w.Journal)
	}
	if err == nil {
		err = w.live()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", w.Worker, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A worker is a copy of the service.
type worker struct {
	task
	journal journal
	sick    atomic.Int64 // until when its work is unhealthy, by the clock
}

func (w *worker) live() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, leave := context.WithCancel(ctx)
	go w.obey(leave)
	go noticePauses(context.Background(), w.journal, longPause)
	serve, address, end, err := w.service()
	if err != nil {
		return err
	}
	fmt.Println(address) // the director waits for it
	for ctx.Err() == nil {
		if err := serve(ctx); errors.Is(err, owner.ErrInvalidConfig) {
			return err
		}
		time.Sleep(10 * time.Millisecond) // a port can be taken for a moment
	}
	return end()
}

// obey runs the director's commands, and leaves when there is no director any more.
func (w *worker) obey(leave func()) {
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		if commands.Text() == "sick" {
			w.sick.Store(int64(clock.Now() + unwell))
		}
	}
	leave()
}

// longPause is how late a worker may be scheduled without a note of it; longFreeze, the
// director.
const (
	longPause  = 30 * time.Millisecond
	longFreeze = time.Second
)

// noticePauses writes down when this process was not scheduled for long: what it does
// late is then not the library's fault.
func noticePauses(ctx context.Context, j journal, long time.Duration) {
	before := clock.Now()
	for wait(ctx, 2*time.Millisecond) {
		now := clock.Now()
		if now-before > long {
			j.put(entry{What: paused, At: before, To: now})
		}
		before = now
	}
}

func (w *worker) config() owner.Config {
	return owner.Config{
		LeasePath: w.Lease, TTL: ttl, SafetyMargin: margin, HealthTimeout: ttl * 2 / 5,
		Healthy: func(context.Context) error {
			if clock.Now() < time.Duration(w.sick.Load()) {
				return errors.New("the director has said so")
			}
			return nil
		},
		RenewInterval: ttl / 5,
	}
}

// service returns what serves while this process owns, where it is reached otherwise, and
// what ends that in order.
func (w *worker) service() (serve func(context.Context) error, address string, end func() error, err error) {
	switch {
	case w.System == systemPlain:
		serve = w.runWith(w.servePlain)
	case w.System == systemNaive:
		serve = w.runWith(w.serveNaive)
	case w.Node:
		return w.nodeService()
	default:
		serve = w.runWith(w.server().Serve)
	}
	return serve, "", func() error { return nil }, nil
}

// nodeService is that of a Node. The Client is not the Node's: it forwards what is under
// way when Run has returned.
func (w *worker) nodeService() (func(context.Context) error, string, func() error, error) {
	client := &reach.Client{LeasePath: w.Lease, Hold: hold}
	n := &reach.Node{Config: w.config(), Server: w.server(), Client: client}
	n.Server.Prepare = w.noted(n.Server.Prepare)
	address, end, err := serveHTTP(n.Handler())
	return n.Run, address, func() error { return errors.Join(end(), client.Close()) }, err
}

// noted notes the loss of a Node's ownership: its work is not this program's to wrap.
func (w *worker) noted(prepare prepareFunc) prepareFunc {
	return func(ctx context.Context, o *owner.Owner) (http.Handler, error) {
		w.attend(o)
		return prepare(ctx, o)
	}
}

type prepareFunc = func(context.Context, *owner.Owner) (http.Handler, error)

func (w *worker) runWith(work func(context.Context, *owner.Owner) error) func(context.Context) error {
	return func(ctx context.Context) error {
		return owner.Run(ctx, w.config(), func(ctx context.Context, o *owner.Owner) error {
			w.attend(o)
			return work(ctx, o)
		})
	}
}

// attend is called at the beginning of an ownership.
func (w *worker) attend(o *owner.Owner) {
	go w.noteLoss(o)
	if w.Moves {
		go w.move(o)
	}
}

func (w *worker) noteLoss(o *owner.Owner) {
	<-o.Lost()
	if err := o.LostErr(); !errors.Is(err, owner.ErrReleased) {
		w.journal.put(entry{What: lost, Instance: o.InstanceID(), Epoch: o.Epoch()})
	}
}

func (w *worker) server() *reach.Server {
	s := &reach.Server{Drain: drain, Prepare: func(ctx context.Context, o *owner.Owner) (http.Handler, error) {
		w.load(ctx)
		return w.handler(o), nil
	}}
	if w.Address != "" {
		s.Listen = w.listen
	}
	return s
}

// load is the time that a service needs before it can serve.
func (w *worker) load(ctx context.Context) {
	if w.Load > 0 {
		wait(ctx, w.Load)
	}
}

// listen takes the lease's own port, so that requests which are meant for one owner come
// to the next. A stopped owner keeps it: then any will do.
func (w *worker) listen(*owner.Owner) (net.Listener, string, error) {
	ln, err := net.Listen("tcp", w.Address)
	if err != nil {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, "", err
	}
	return ln, "tcp:" + ln.Addr().String(), nil
}

// handler does what the service is for.
func (w *worker) handler(o *owner.Owner) http.Handler {
	instance, epoch := o.InstanceID(), o.Epoch()
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		e := entry{What: begun, ID: q.Get("id"), Key: r.Header.Get("Idempotency-Key"), Instance: instance, Epoch: epoch}
		w.journal.put(e)
		got, err := io.Copy(io.Discard, r.Body)
		work, _ := time.ParseDuration(cmp.Or(q.Get("work"), "0s"))
		if err != nil || !wait(r.Context(), work) {
			panic(http.ErrAbortHandler) // what was not done is not answered
		}
		e.What = ended
		w.journal.put(e)
		h := rw.Header()
		h.Set(headerBy, instance)
		h.Set(headerEpoch, strconv.FormatUint(epoch, 10))
		h.Set(headerGot, strconv.FormatInt(got, 10))
		answer(rw, r, q.Has("stream"))
	})
}

// The parts of an answer that is a stream.
const (
	parts    = 5
	partSize = 2000
)

// answer writes the answer's body, at once or as a stream.
func answer(rw http.ResponseWriter, r *http.Request, stream bool) {
	if !stream {
		fmt.Fprintln(rw, "done")
		return
	}
	for range parts {
		_, _ = rw.Write(make([]byte, partSize))
		_ = http.NewResponseController(rw).Flush()
		if !wait(r.Context(), time.Millisecond) {
			panic(http.ErrAbortHandler)
		}
	}
}

// wait reports whether the time has passed before the context has ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serveHTTP serves a handler on a port, until end is called.
func serveHTTP(h http.Handler) (address string, end func() error, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(ln) }()
	return ln.Addr().String(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
		return nil
	}, nil
}
