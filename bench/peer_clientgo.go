package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/ownerlease/owner/internal/clock"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// clientGoPeer runs an elector with a lock in the register.
type clientGoPeer struct {
	lock     *registerLock
	releases bool
	period   time.Duration
	elector  *leaderelection.LeaderElector
	cancel   context.CancelFunc
	leading  context.Context // as OnStartedLeading got it
	stopped  chan struct{}   // closed when Run has returned
}

func openClientGo(s spec) (*clientGoPeer, error) {
	reg, err := dialRegister(s)
	if err != nil {
		return nil, err
	}
	p := &clientGoPeer{lock: &registerLock{reg: reg, id: fmt.Sprint("process ", os.Getpid())}, period: retryPeriod, releases: s.Release}
	if s.Renewals {
		p.period = renewEvery
	}
	return p, nil
}

func (p *clientGoPeer) campaign(ctx context.Context) error {
	ctx, p.cancel = context.WithCancel(klog.NewContext(ctx, logr.Discard()))
	started := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            p.lock,
		LeaseDuration:   ttl,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     p.period,
		ReleaseOnCancel: p.releases,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { started <- ctx },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	p.elector = elector
	stopped := make(chan struct{})
	p.stopped = stopped
	go func() {
		elector.Run(ctx)
		close(stopped)
	}()
	select {
	case p.leading = <-started:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release is the end of Run's context: ReleaseOnCancel makes it one.
func (p *clientGoPeer) release(context.Context) error {
	p.cancel()
	<-p.stopped
	return nil
}

func (p *clientGoPeer) views() []view {
	leads := func() bool { return p.leading.Err() == nil }
	return []view{{viewContext, leads}, {viewIsLeader, func() bool { return leads() && p.elector.IsLeader() }}}
}

func (p *clientGoPeer) renew(ctx context.Context, n int) ([]time.Duration, error) {
	if err := p.campaign(ctx); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		if took := p.lock.updates(); len(took) >= n {
			return took[:n], p.release(ctx)
		}
		time.Sleep(renewEvery)
	}
	return nil, fmt.Errorf("%d renewals of %d: %w", len(p.lock.updates()), n, ctx.Err())
}

func (p *clientGoPeer) hang(on bool) { p.lock.reg.gate.hang(on) }

func (p *clientGoPeer) renewedAt() time.Duration {
	p.lock.mu.Lock()
	defer p.lock.mu.Unlock()
	return p.lock.renewed
}

// A registerLock is a resourcelock.Interface in the register. Like an API server,
// it refuses an update of any version but the last.
type registerLock struct {
	reg     *registerClient
	id      string
	version uint64 // the last one that this process has read or written

	mu      sync.Mutex
	took    []time.Duration // the updates
	renewed time.Duration   // when the last write that succeeded was begun
}

var resource = schema.GroupResource{Group: "bench", Resource: "registers"}

func (l *registerLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cell, err := l.reg.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	if cell.Version == 0 {
		return nil, nil, apierrors.NewNotFound(resource, l.reg.name)
	}
	l.version = cell.Version
	rec := new(resourcelock.LeaderElectionRecord)
	if err := json.Unmarshal(cell.Data, rec); err != nil {
		return nil, nil, err
	}
	return rec, cell.Data, nil
}

func (l *registerLock) Create(ctx context.Context, rec resourcelock.LeaderElectionRecord) error {
	l.version = 0
	err := l.write(ctx, rec)
	if errors.Is(err, errChanged) {
		return apierrors.NewAlreadyExists(resource, l.reg.name)
	}
	return err
}

func (l *registerLock) Update(ctx context.Context, rec resourcelock.LeaderElectionRecord) error {
	begun := time.Now()
	err := l.write(ctx, rec)
	if errors.Is(err, errChanged) {
		return apierrors.NewConflict(resource, l.reg.name, err)
	}
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.took = append(l.took, time.Since(begun))
	}
	return err
}

func (l *registerLock) write(ctx context.Context, rec resourcelock.LeaderElectionRecord) error {
	begun := clock.Now()
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := l.reg.put(ctx, l.version+1, data); err != nil {
		return err
	}
	l.version++
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = begun
	return nil
}

func (l *registerLock) updates() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.took
}

func (l *registerLock) RecordEvent(string) {}

func (l *registerLock) Identity() string { return l.id }

func (l *registerLock) Describe() string { return l.reg.name }
