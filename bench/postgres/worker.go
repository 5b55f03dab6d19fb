//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/pgstore"
)

// These make a process a contender.
const (
	workerEnv = "ELECTION_WORKER"
	dsnEnv    = "ELECTION_DSN"
)

// ask is how often a contender is asked whether it leads.
const ask = time.Millisecond

// work contends until SIGTERM, and then steps down in order.
func work(kind string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	dsn := os.Getenv(dsnEnv)
	switch kind {
	case kindOwner:
		return lease(ctx, dsn)
	case kindUnwitnessed:
		return lease(ctx, dsn, pgstore.Unwitnessed())
	case kindLock:
		return lock(ctx, dsn, ping)
	case kindReadLock:
		return lock(ctx, dsn, read)
	case kindRiver:
		return riverClient(ctx, dsn)
	}
	return fmt.Errorf("no contender is called %q", kind)
}

// sign tells the parent that this process leads now. Each is one write of eight bytes, which
// a pipe keeps whole.
func sign() {
	_, _ = os.Stdout.Write(binary.LittleEndian.AppendUint64(nil, uint64(clock.Now())))
}

// asked signs while leads says so. It is called as often as the pauses of the runtime let it.
func asked(ctx context.Context, leads func() bool) {
	tick := time.NewTicker(ask)
	defer tick.Stop()
	for ctx.Err() == nil {
		if leads() {
			sign()
		}
		<-tick.C
	}
}

// lease is this project's: IsOwner is asked.
func lease(ctx context.Context, dsn string, opts ...pgstore.Option) error {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return err
	}
	db, err := pgstore.Open(cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	err = owner.Run(ctx, owner.Config{Store: pgstore.New(db, "leader", opts...), TTL: ttl}, func(ctx context.Context, o *owner.Owner) error {
		asked(ctx, o.IsOwner)
		return nil
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// lock is a session-level advisory lock as one would write it by hand: a connection of its
// own, on which it waits for the lock, and which it watches then.
func lock(ctx context.Context, dsn string, watch func(context.Context, *pgx.Conn) error) error {
	var leads atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() { asked(ctx, leads.Load) })
	defer wg.Wait()
	for ctx.Err() == nil {
		_ = hold(ctx, dsn, &leads, watch)
		leads.Store(false)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// hold leads until the connection has ended.
func hold(ctx context.Context, dsn string, leads *atomic.Bool, watch func(context.Context, *pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() {
		leads.Store(false)
		_ = conn.Close(context.WithoutCancel(ctx)) // which releases the lock
	}()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(1)"); err != nil {
		return err
	}
	leads.Store(true)
	return watch(ctx, conn)
}

// ping watches a connection by a request once a second.
func ping(ctx context.Context, conn *pgx.Conn) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		if err := conn.Ping(ctx); err != nil {
			return err
		}
	}
}

// read watches a connection by reading it all the time.
func read(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.WaitForNotification(ctx) // of which there are none
	return err
}

type noArgs struct{}

func (noArgs) Kind() string { return "none" }

type noWorker struct{ river.WorkerDefaults[noArgs] }

func (noWorker) Work(context.Context, *river.Job[noArgs]) error { return nil }

// riverClient is a client of River, as it comes. What only the leader does is to have
// periodic jobs made: this one is made every 10 ms, and never inserted.
func riverClient(ctx context.Context, dsn string) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, noWorker{})
	made := func() (river.JobArgs, *river.InsertOpts) {
		sign()
		return nil, nil
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1}},
		Workers: workers,
		Logger:  slog.New(slog.DiscardHandler),
		PeriodicJobs: []*river.PeriodicJob{
			river.NewPeriodicJob(river.PeriodicInterval(10*time.Millisecond), made, &river.PeriodicJobOpts{RunOnStart: true}),
		},
	})
	if err != nil {
		return err
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-ctx.Done()
	return client.Stop(context.Background())
}

// A contender is a process, and when it has said that it leads.
type contender struct {
	name string // of its sessions
	proc *os.Process

	mu    sync.Mutex
	signs []time.Duration
	ended error
	done  chan struct{}
}

// listen reads the signs until the process ends.
func (c *contender) listen(out *os.File) {
	defer close(c.done)
	in := bufio.NewReader(out)
	for {
		var at uint64
		err := binary.Read(in, binary.LittleEndian, &at)
		c.mu.Lock()
		if err == nil {
			c.signs = append(c.signs, time.Duration(at))
		} else {
			c.ended = err
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *contender) said() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signs[:len(c.signs):len(c.signs)]
}
