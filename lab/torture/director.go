package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// A director starts the processes, has each lease played in its lane, and ends
// everything.
type director struct {
	options
	dir    string
	began  time.Duration
	length time.Duration // of the play
	chosen []fault
	// contains: workers can be put into pid namespaces.
	contains bool
	lanes    []*leaseRun
	stderr   *os.File
	failed   context.CancelCauseFunc // ends the run

	mu        sync.Mutex
	processes []*process // all workers that there ever were
}

// errEnded: a worker has ended unexpectedly, which is reported when all have ended.
var errEnded = errors.New("a worker has ended unexpectedly")

// run plays it all. All that was started has ended when it returns, and no disk
// stays mounted: the keeper of a disk ends with its stdin, as the workers do, should
// this process be killed. An interrupt ends the run early, and what was seen until
// then is judged.
func (d *director) run(ctx context.Context, out io.Writer) (err error) {
	ctx, d.failed = context.WithCancelCause(ctx)
	defer d.failed(nil)
	if d.stderr, err = os.Create(filepath.Join(d.dir, "stderr")); err != nil {
		return err
	}
	defer d.stderr.Close()
	defer func() { err = errors.Join(err, d.end()) }()
	if err := d.prepare(out); err != nil {
		return err
	}
	until := clock.Now() + d.duration
	var playing sync.WaitGroup
	for _, l := range d.lanes {
		playing.Go(func() {
			if err := l.play(ctx, until); err != nil {
				d.failed(err)
			}
		})
	}
	playing.Wait()
	d.length = d.duration + clock.Now() - until
	if err := context.Cause(ctx); !errors.Is(err, errEnded) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// prepare makes the leases' folders and starts the first workers. The last lease has its
// own disk, if there are faults of disks.
func (d *director) prepare(out io.Writer) error {
	if err := canContain(); err == nil {
		d.contains = true
	} else if _, err := fmt.Fprintf(out, "without containers: %v\n", err); err != nil {
		return err
	}
	for i := range d.leases {
		l := &leaseRun{
			d: d, name: fmt.Sprint("lease ", i+1), contains: d.contains && i > 0,
			rng: rand.New(rand.NewPCG(d.seed, uint64(2*i))), seeds: rand.New(rand.NewPCG(d.seed, uint64(2*i+1))),
		}
		d.lanes = append(d.lanes, l)
		place := filepath.Join(d.dir, fmt.Sprint("lease", i+1))
		err := os.Mkdir(place, 0o700)
		if err == nil && i == d.leases-1 && slices.ContainsFunc(d.chosen, ofADisk) {
			if l.disk, err = newDisk(place, d.stderr); err == nil {
				place = l.disk.mount
			} else if d.faults == "" {
				d.chosen = slices.DeleteFunc(d.chosen, ofADisk)
				_, err = fmt.Fprintf(out, "without faults of disks: %v\n", err)
			}
		}
		if err != nil {
			return err
		}
		l.path, l.backupPath = filepath.Join(place, "leases", "x.lease"), filepath.Join(place, "old")
		if err := os.Mkdir(filepath.Dir(l.path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		l.workers = make([]*process, (d.workers+i)/d.leases)
		for j := range l.workers {
			if err := l.hire(j); err != nil {
				return err
			}
		}
	}
	return nil
}

func ofADisk(f fault) bool { return f.kind == ofDisk }

// chose reports whether a fault is one of those that are played.
func (d *director) chose(name string) bool {
	return slices.ContainsFunc(d.chosen, func(c fault) bool { return c.name == name })
}

func (d *director) startWorker(t task, contained bool) (*process, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.Worker = fmt.Sprint("worker", len(d.processes)+1)
	t.Journal = filepath.Join(d.dir, t.Worker+".json")
	env, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	p, err := start(d.worker, "worker", contained, []string{taskEnv + "=" + string(env)}, nil, d.stderr)
	if err != nil {
		return nil, err
	}
	p.journal, p.name = t.Journal, t.Worker
	d.processes = append(d.processes, p)
	go func() {
		<-p.done
		if p.failure() != nil {
			d.failed(errEnded)
		}
	}()
	return p, nil
}

// end ends all processes, workers first: they may be using the disks.
func (d *director) end() error {
	var errs []error
	for _, p := range d.processes {
		p.leave()
	}
	for _, p := range d.processes {
		errs = append(errs, p.await(20*time.Second))
	}
	for _, l := range d.lanes {
		if l.disk != nil {
			errs = append(errs, l.disk.close())
		}
	}
	return errors.Join(errs...)
}
