//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/pgstore"
)

// The contenders.
const (
	kindOwner       = "owner"
	kindUnwitnessed = "owner, without a witness"
	kindLock        = "advisory lock, pinged"
	kindReadLock    = "advisory lock, read"
	kindRiver       = "River"
)

var kinds = []string{kindOwner, kindUnwitnessed, kindLock, kindReadLock, kindRiver}

const (
	// ttl is of owner's leases. River's is 15 s, as it comes.
	ttl = 3 * time.Second
	// limit is for how long the next leader is waited for.
	limit = 40 * time.Second
	// after is how long two are watched after what has happened. Where none is to take
	// over, watched is how long that is waited for.
	after   = 2 * time.Second
	watched = 20 * time.Second
)

// A trial is what happens to the leader.
type trial struct {
	name string
	do   func(ctx context.Context, e *election, leader *contender) error
	// undo is done when the next leads, or none has in the time watched.
	undo func(leader *contender) error
	// stays says that the leader can stay: no takeover is no failure.
	stays bool
}

var trials = []trial{
	{name: "killed", do: func(_ context.Context, _ *election, l *contender) error { return l.proc.Kill() }},
	{name: "steps down", do: func(_ context.Context, _ *election, l *contender) error { return l.proc.Signal(syscall.SIGTERM) }},
	{name: "its sessions are terminated", stays: true, do: terminate},
	{name: "stopped, and resumed", stays: true, do: stop, undo: resume},
	{name: "stopped, its sessions terminated, and resumed", stays: true, undo: resume,
		do: func(ctx context.Context, e *election, l *contender) error {
			return errors.Join(stop(ctx, e, l), terminate(ctx, e, l))
		}},
}

func stop(_ context.Context, _ *election, l *contender) error { return l.proc.Signal(syscall.SIGSTOP) }

func resume(l *contender) error { return l.proc.Signal(syscall.SIGCONT) }

func terminate(ctx context.Context, e *election, l *contender) error {
	_, err := e.admin.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND datname = $2", l.name, e.database)
	return err
}

// An outcome is what a trial has shown.
type outcome struct {
	next     time.Duration // until the next leads, 0 if none does
	together time.Duration // for how long both have said that they lead
}

// An election has a database of its own, and two contenders.
type election struct {
	kind, dsn, database string
	admin               *pgx.Conn
	all                 []*contender
}

var databases atomic.Int64

// run makes an election, has the trial happen to its leader, and watches.
func run(ctx context.Context, server, kind string, t trial) (o outcome, err error) {
	e, err := newElection(ctx, server, kind)
	if err != nil {
		return o, err
	}
	defer e.end()
	leader, err := e.start("first")
	if err == nil {
		_, err = e.leads(ctx, leader, 0)
	}
	if err != nil {
		return o, err
	}
	next, err := e.start("second")
	if err != nil {
		return o, err
	}
	sleep(ctx, time.Second+rand.N(time.Second)) // it waits by then, and the leader is anywhere between two renewals
	began := clock.Now()
	if err := t.do(ctx, e, leader); err != nil {
		return o, err
	}
	wait := limit
	if t.stays {
		wait = watched
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	at, err := e.leads(bounded, next, began)
	switch {
	case err == nil:
		o.next = at - began
	case !t.stays || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
		return o, err
	}
	if t.undo != nil {
		if err := t.undo(leader); err != nil {
			return o, err
		}
	}
	sleep(ctx, after)
	o.together = together(believes(leader.said()), believes(next.said()))
	return o, ctx.Err()
}

func newElection(ctx context.Context, server, kind string) (*election, error) {
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("election%d", databases.Add(1))
	e := &election{kind: kind, dsn: server + " dbname=" + name, database: name, admin: admin}
	_, err = admin.Exec(ctx, "CREATE DATABASE "+name)
	if err == nil {
		err = e.setUp(ctx)
	}
	if err != nil {
		e.end()
		return nil, err
	}
	return e, nil
}

// setUp makes the tables.
func (e *election) setUp(ctx context.Context) error {
	cfg, err := pgxpool.ParseConfig(e.dsn)
	if err != nil {
		return err
	}
	switch e.kind {
	case kindOwner, kindUnwitnessed:
		db, err := pgstore.Open(cfg)
		if err != nil {
			return err
		}
		defer db.Close()
		return pgstore.Setup(ctx, db, 0)
	case kindRiver:
		pool, err := pgxpool.NewWithConfig(ctx, cfg)
		if err != nil {
			return err
		}
		defer pool.Close()
		m, err := rivermigrate.New(riverpgxv5.New(pool), nil)
		if err != nil {
			return err
		}
		_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
		return err
	}
	return nil
}

// start starts a contender.
func (e *election) start(name string) (*contender, error) {
	c := &contender{name: name, done: make(chan struct{})}
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+e.kind, dsnEnv+"="+e.dsn+" application_name="+name)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	err = cmd.Start()
	out.Close()
	if err != nil {
		in.Close()
		return nil, err
	}
	c.proc = cmd.Process
	go func() {
		c.listen(in)
		in.Close()
		_ = cmd.Wait()
	}()
	e.all = append(e.all, c)
	return c, nil
}

// leads returns when the contender has said that it leads, at this time or later.
func (e *election) leads(ctx context.Context, c *contender, since time.Duration) (time.Duration, error) {
	for {
		if at, ok := firstAfter(c.said(), since); ok {
			return at, nil
		}
		select {
		case <-c.done:
			return 0, fmt.Errorf("%s: the %s process has ended", e.kind, c.name)
		case <-ctx.Done():
			return 0, fmt.Errorf("%s: the %s process does not lead: %w", e.kind, c.name, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// end ends the processes, and the connection.
func (e *election) end() {
	for _, c := range e.all {
		_ = c.proc.Kill()
		<-c.done
	}
	_ = e.admin.Close(context.Background())
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
