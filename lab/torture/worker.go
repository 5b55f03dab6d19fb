package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/history"
)

// A task is a worker's configuration, in its environment.
type task struct {
	Lease   string // the path
	Name    string // in the history
	Worker  string // its own, which is in its lease's endpoint
	Journal string
	Seed    uint64
}

const taskEnv = "_OWNER_TORTURE_TASK"

// The leases' TTLs are short, so that a minute sees many.
const (
	shortestTTL = 150 * time.Millisecond
	longestTTL  = 400 * time.Millisecond
)

// A worker is a member of one lease again and again, in all the ways that there
// are, and writes down what it sees.
type worker struct {
	task
	ctx     context.Context // ends when it is to leave
	rng     *rand.Rand
	cfg     owner.Config
	journal journal
	now     history.Tenure // the present one
	sought  atomic.Int64   // when the last attempt to acquire was begun, at the latest
}

// beWorker is the whole life of a worker. It ends with its stdin: also when the
// director has been killed.
func beWorker() int {
	w := &worker{}
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	w.ctx = ctx
	err := json.Unmarshal([]byte(os.Getenv(taskEnv)), &w.task)
	if err == nil {
		w.journal.file, err = os.OpenFile(w.Journal, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err == nil {
		go obey(w.Lease, leave)
		err = w.live()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", w.Worker, err)
		return 1
	}
	return 0
}

// obey runs the director's commands.
func obey(lease string, leave func()) {
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		switch what, arg, _ := strings.Cut(commands.Text(), " "); what {
		case "revoke":
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*longestTTL)
				defer cancel()
				_, _ = owner.Revoke(ctx, lease) // whether it can be done is another's test
			}()
		case "fork":
			n, _ := strconv.Atoi(arg)
			for range n {
				go fork()
			}
		}
	}
	leave()
}

// fork starts a process that does nothing. Until it executes another program, it has all
// that this one has opened.
func fork() {
	self, err := os.Executable()
	if err != nil {
		return
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), partEnv+"=nobody")
	_ = cmd.Run()
}

func (w *worker) live() error {
	w.rng = rand.New(rand.NewPCG(w.Seed, 1))
	ttl := between(w.rng, shortestTTL, longestTTL)
	w.cfg = owner.Config{
		LeasePath: w.Lease, Endpoint: w.Worker, TTL: ttl, SafetyMargin: between(w.rng, ttl/10, ttl/2),
		// No attempt owns before it has begun.
		OnTransition: func(t owner.Transition) {
			if t.To == owner.StateAcquiring {
				at := int64(clock.Now() - time.Since(t.At)) // in this order: never later than it was
				for was := w.sought.Load(); was < at && !w.sought.CompareAndSwap(was, at); was = w.sought.Load() {
				}
			}
		},
	}
	uses := []func(context.Context, func()) error{w.join, w.join, w.standBy, w.standBy, w.campaign, w.run}
	for w.ctx.Err() == nil {
		ctx, cancel := context.WithCancel(context.Background())
		err := uses[w.rng.IntN(len(uses))](ctx, cancel)
		cancel()
		if errors.Is(err, owner.ErrInvalidConfig) || errors.Is(err, owner.ErrUnsupportedFilesystem) {
			return err
		}
		// Other errors are the faults' doing: of a full disk, a damaged record.
		w.pause(between(w.rng, time.Millisecond, 20*time.Millisecond))
	}
	return nil
}

// begin begins another tenure, of an instance that does not own before a moment.
func (w *worker) begin(at time.Duration, stands bool) {
	w.now = history.Tenure{Lease: w.Name, By: w.Worker, Sought: at, Margin: w.cfg.SafetyMargin}
	if stands {
		w.now.Joined = at
	}
	w.write()
}

// write records the present state of the tenure. A worker that cannot is useless.
func (w *worker) write() {
	if err := w.journal.put(&w.now); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", w.Worker, err)
		os.Exit(1)
	}
}

// end ends the tenure's line.
func (w *worker) end() {
	w.write()
	w.journal.turn()
}

// join is a user that tries from time to time.
func (w *worker) join(ctx context.Context, cancel func()) error {
	w.begin(clock.Now(), false)
	o, err := owner.Join(ctx, w.cfg)
	if err == nil && o.Role() == owner.RoleOwner {
		w.own(o, cancel)
	}
	return err
}

// standBy waits as a standby, and at times gives up.
func (w *worker) standBy(ctx context.Context, cancel func()) error {
	cfg := w.cfg
	cfg.Standby = true
	w.begin(clock.Now(), true)
	o, err := owner.Join(ctx, cfg)
	if err != nil {
		return err
	}
	timer := time.NewTimer(time.Duration(w.rng.ExpFloat64() * float64(2*time.Second)))
	defer timer.Stop()
	select {
	case <-o.Elected():
		w.own(o, cancel)
		return nil
	case <-timer.C:
	case <-w.ctx.Done():
	}
	w.now.Over = clock.Now()
	_ = o.Release()
	w.end()
	return nil
}

func (w *worker) campaign(ctx context.Context, cancel func()) error {
	waiting := context.AfterFunc(w.ctx, cancel)
	w.begin(clock.Now(), true)
	o, err := owner.Campaign(ctx, w.cfg)
	waiting()
	if err == nil {
		w.own(o, cancel)
	}
	return err
}

// run is a user of Run, which does not call Release.
func (w *worker) run(context.Context, func()) error {
	again := clock.Now()
	w.begin(again, true)
	first := true
	var left *owner.Owner
	err := owner.Run(w.ctx, w.cfg, func(_ context.Context, o *owner.Owner) error {
		if !first { // after a loss
			w.begin(again, true)
		}
		first = false
		lost := w.hold(o, w.stay())
		if lost {
			w.linger(o)
		}
		again = clock.Now()
		w.now.Freed = again
		if !lost {
			w.now.End, left = history.Released, o
		}
		w.write()
		if lost {
			w.journal.turn()
		}
		return nil
	})
	if left != nil {
		w.linger(left)
		w.end()
	}
	return err
}

// stay is how long to own: mostly very shortly, so that there are many owners, but
// also for many renewals.
func (w *worker) stay() time.Duration {
	switch w.rng.IntN(20) {
	case 0:
		return between(w.rng, w.cfg.TTL, 5*w.cfg.TTL)
	case 1, 2, 3:
		return between(w.rng, 0, w.cfg.TTL)
	}
	return between(w.rng, 0, 20*time.Millisecond)
}

// own owns, and leaves in one of several ways: by a release, or by the end of the
// context, which lets the lease expire; and after a loss, with or without a call of
// Release.
func (w *worker) own(o *owner.Owner, cancel func()) {
	lost := w.hold(o, w.stay())
	if !lost && w.rng.IntN(10) == 0 {
		cancel()
		lost = w.hold(o, time.Hour)
	}
	if !lost || w.rng.IntN(2) == 0 {
		w.now.Freed = clock.Now()
		if !lost {
			w.now.End = history.Released
		}
		w.write()
		_ = o.Release() // where the disk does not let it, the lease expires
	}
	w.linger(o)
	w.end()
}

// hold asks IsOwner again and again until it returns false, this much time has passed, or
// the worker is to leave. It reports whether the ownership was lost.
func (w *worker) hold(o *owner.Owner, stay time.Duration) (lost bool) {
	begun := clock.Now()
	w.now.Instance, w.now.Epoch = o.InstanceID(), o.Epoch()
	w.now.Sought = max(w.now.Sought, time.Duration(w.sought.Load()))
	for w.ask(o) {
		w.write()
		since := clock.Now() - begun
		if since >= stay || w.ctx.Err() != nil {
			return false
		}
		// Closer at the beginning, when another could be one, too.
		time.Sleep(min(time.Millisecond, 100*time.Microsecond+since/10, stay-since))
	}
	<-o.Lost()
	w.now.End = ending(o.LostErr())
	if w.now.End == history.Expired && w.now.Owned > 0 {
		// It would have said yes until then. A process that is stopped cannot ask.
		w.now.Valid = max(w.now.Valid, w.now.Expiry-w.now.Margin)
	}
	w.write()
	return true
}

func ending(lost error) history.End {
	switch {
	case errors.Is(lost, owner.ErrTakenOver):
		return history.TakenOver
	case errors.Is(lost, owner.ErrRevoked):
		return history.Revoked
	}
	return history.Expired
}

// ask asks IsOwner. The answer was true at some moment between the two readings of
// the clock.
func (w *worker) ask(o *owner.Owner) bool {
	asked := clock.Now()
	owns := o.IsOwner()
	answered := clock.Now()
	switch {
	case owns:
		w.now.Owned = cmp.Or(w.now.Owned, answered)
		w.now.Valid = asked
		// In this order: never later than it is.
		w.now.Expiry = max(w.now.Expiry, clock.Now()-time.Since(o.Holder().RenewedAt)+w.cfg.TTL)
	case w.now.Over == 0:
		w.now.Over = answered
	}
	return owns
}

// linger asks some more after the end: the answer must stay no.
func (w *worker) linger(o *owner.Owner) {
	for range 3 {
		w.ask(o)
		time.Sleep(100 * time.Microsecond)
	}
}

func (w *worker) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.ctx.Done():
	case <-timer.C:
	}
}

// between returns a duration from one to another.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)+1))
}
