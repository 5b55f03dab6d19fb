package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sync/errgroup"
)

// A bench is a run: the servers that the peers need, and what was measured.
type bench struct {
	options
	*results
	dir      string
	names    atomic.Int64 // of leases: each trial has its own
	register *Register
	listen   net.Listener
	etcd     *embed.Etcd
	etcdAddr string // where etcd's clients reach it
}

func newBench(dir string, o options) (*bench, error) {
	b := &bench{options: o, results: newResults(), dir: dir, register: &Register{cells: map[string]Cell{}}}
	var err error
	if b.listen, err = b.register.serve(); err != nil {
		return nil, err
	}
	if b.etcd, err = startEtcd(filepath.Join(dir, "etcd")); err != nil {
		b.listen.Close()
		return nil, err
	}
	b.etcdAddr = b.etcd.Clients[0].Addr().String()
	return b, nil
}

func (b *bench) close() {
	b.listen.Close()
	b.etcd.Close()
}

// lease returns the spec of an unused lease.
func (b *bench) lease(peer string) spec {
	s := spec{Peer: peer, Name: fmt.Sprintf("lease-%d", b.names.Add(1))}
	switch peer {
	case peerEtcd:
		s.Addr = b.etcdAddr
	case peerClientGo:
		s.Addr = b.listen.Addr().String()
	default:
		s.Name = filepath.Join(b.dir, s.Name)
	}
	return s
}

// run measures everything. What takes moments goes alone, one after the other;
// then what waits for timeouts, several at a time.
func (b *bench) run(ctx context.Context) error {
	alone, waiting := b.plan()
	for i, t := range alone {
		progress("%d of %d: %s", i+1, len(alone), t.what)
		if err := t.do(ctx); err != nil {
			return err
		}
	}
	// Mixed, so that no peer gets a better moment than another.
	rand.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.parallel)
	for i, t := range waiting {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			progress("%d of %d that wait for timeouts: %s", i+1, len(waiting), t.what)
			return t.do(ctx)
		})
	}
	return g.Wait()
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// A trial is a step of the run.
type trial struct {
	what string
	run  func(context.Context) error
}

// do runs a trial, and ends one that hangs: with it, its processes.
func (t trial) do(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, trialLimit, fmt.Errorf("not over after %v", trialLimit))
	defer cancel()
	err := t.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // the error is a consequence
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.what, err)
	}
	return nil
}

// plan lists what there is to do: what takes moments, and what waits for timeouts.
func (b *bench) plan() (alone, waiting []trial) {
	alone = append(alone, trial{string(jobFsync), b.fsync})
	for _, p := range peers {
		s := b.lease(p)
		s.Release = true
		alone = append(alone, b.solo(jobRounds, s, "rounds"), b.solo(jobAgain, s, "again"))
	}
	kept := b.lease(peerEtcd)
	kept.Keep = true
	alone = append(alone, b.solo(jobKept, kept, "rounds"))
	for _, p := range []string{peerOwner, peerEtcd, peerClientGo} {
		alone = append(alone, b.renewals(p))
	}
	for range b.trials {
		for _, p := range []string{peerOwner, peerLock, peerTryLock} {
			alone = append(alone, b.killed(p, shortPhase), b.handover(p, shortPhase))
		}
		alone = append(alone, b.handover(peerEtcd, shortPhase))
		waiting = append(waiting, b.killed(peerEtcd, longPhase), b.killed(peerClientGo, longPhase), b.handover(peerClientGo, longPhase))
		waiting = append(waiting, b.hangs()...)
		waiting = append(waiting, b.behinds()...)
		if onUnix {
			waiting = append(waiting, b.stopped(peerOwner), b.stopped(peerEtcd), b.stopped(peerClientGo))
		}
	}
	return alone, waiting
}
