package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/sdnotify"
)

// Checks says when the command is ready, and whether it is healthy. The zero Checks takes
// it for both.
type Checks struct {
	// Notify has the command say so itself, by sd_notify(3): READY=1 when it is ready, a
	// STATUS= to show, STOPPING=1. On Linux only.
	Notify bool
	// Watchdog demands WATCHDOG=1 in each Config.HealthTimeout; it needs Notify.
	Watchdog bool
	// Ready is a probe that is tried until it succeeds, and Health one that is run every
	// Interval from then on. nil is none.
	Ready, Health []string
	Interval      time.Duration
	// Limit is how long one try may take.
	Limit time.Duration
	// ReadyTimeout is how long the command may take to get ready; 0: for ever.
	ReadyTimeout time.Duration
}

// A NotReadyError says that the command was ended as it did not get ready in time.
type NotReadyError struct {
	After time.Duration
	Why   string
}

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("COMMAND was not ready after %v, and was ended: %s", e.After, e.Why)
}

// StatusMetaKey is the key, in the record's metadata, of what the command has said with
// STATUS=.
const StatusMetaKey = "status"

// A tending is what is known of the command beside its processes: whether it is ready and
// healthy, and what it says of itself. What it advertises follows from that.
type tending struct {
	o        *Options
	endpoint string            // to be advertised when it is ready
	meta     map[string]string // the same
	listener *sdnotify.Listener
	ctx      context.Context
	end      context.CancelFunc
	tasks    sync.WaitGroup
	pings    chan struct{} // WATCHDOG=1

	mu     sync.Mutex
	own    *owner.Owner
	starts bool // the command is being started, and may speak already
	job    *job // nil: the command does not run
	ready  bool
	stops  bool   // STOPPING=1
	told   bool   // it was told to end, or has ended and leaves processes behind
	failed bool   // WATCHDOG=trigger
	status string // STATUS=
	why    error  // why it is not ready
	warned map[string]bool

	nextProbe time.Time     // of Health; used by Healthy only
	changed   chan struct{} // closed and replaced with each change of the above
}

// newTending prepares the lease's configuration: what is advertised before the command is
// ready, and who is asked for its health.
func newTending(o *Options) (*tending, error) {
	t := &tending{
		o: o, endpoint: o.Config.Endpoint, meta: o.Config.Meta,
		pings: make(chan struct{}, 1), changed: make(chan struct{}), warned: map[string]bool{},
	}
	t.ctx, t.end = context.WithCancel(context.Background())
	switch {
	case o.Checks.Health != nil:
		o.Config.Healthy = t.healthyByProbe
	case o.Checks.Watchdog:
		o.Config.Healthy = t.healthyByPing
	}
	if o.Config.Healthy != nil {
		// Healthy is asked as often as the lease is renewed: often enough for the timeout.
		o.Config.RenewInterval = max(time.Millisecond, min(o.Config.TTL/3, o.Config.HealthTimeout/4))
	}
	if t.waitsForReady() {
		if err := mistakeIn(o.Config); err != nil {
			return nil, err
		}
		o.Config.Endpoint, o.Config.Meta = "", nil
	}
	if !o.Checks.Notify {
		return t, nil
	}
	if err := canSeeProcesses(); err != nil {
		return nil, err
	}
	l, err := sdnotify.Listen()
	if err != nil {
		return nil, err
	}
	t.listener = l
	return t, nil
}

// mistakeIn checks the configuration as Join does, before what is to be advertised later is
// taken out of it.
func mistakeIn(cfg owner.Config) error {
	ctx, end := context.WithCancel(context.Background())
	end()
	if _, err := owner.Join(ctx, cfg); errors.Is(err, owner.ErrInvalidConfig) {
		return err
	}
	return nil
}

func (t *tending) waitsForReady() bool { return t.o.Checks.Notify || t.o.Checks.Ready != nil }

// elected begins to tend: this process owns the lease.
func (t *tending) elected(own *owner.Owner) {
	t.mu.Lock()
	t.own = own
	t.mu.Unlock()
	if t.waitsForReady() {
		t.tasks.Go(t.publish)
	}
	if t.listener != nil {
		t.tasks.Go(func() { t.listener.Receive(t.note) })
	}
	t.tellService()
}

func (t *tending) close() {
	t.end()
	if t.listener != nil {
		t.listener.Close()
	}
	t.tasks.Wait()
}

// environ is what the command finds in its environment.
func (t *tending) environ() []string {
	if t.listener == nil {
		return nil
	}
	env := []string{sdnotify.SocketEnv + "=" + t.listener.Path()}
	if t.o.Checks.Watchdog {
		env = append(env, fmt.Sprintf("WATCHDOG_USEC=%d", t.o.Config.HealthTimeout.Microseconds()))
	}
	return env
}

// change makes a change, and wakes up all that wait for one.
func (t *tending) change(f func()) {
	t.mu.Lock()
	f()
	close(t.changed)
	t.changed = make(chan struct{})
	t.mu.Unlock()
}

var (
	errNoReady  = errors.New("it has not sent READY=1 to $NOTIFY_SOCKET, as by systemd-notify --ready")
	errNoAnswer = errors.New("--ready-cmd has not ended yet")
)

// starting is called before the command is started, and ended where that has failed.
func (t *tending) starting() { t.change(func() { t.starts = true }) }

// begin is called when the command has been started. The channel gets why it is to be
// ended.
func (t *tending) begin(j *job) <-chan error {
	giveUp := make(chan error, 1)
	t.change(func() {
		t.starts, t.job, t.ready, t.status = false, j, !t.waitsForReady(), ""
		t.stops, t.told, t.failed = false, false, false
		t.why = errNoReady
		if t.o.Checks.Ready != nil {
			t.why = errNoAnswer
		}
	})
	t.tellService()
	if t.waitsForReady() {
		t.tasks.Go(func() { t.awaitReady(j, giveUp) })
	}
	if t.o.Checks.Ready != nil {
		t.tasks.Go(func() { t.probeReady(j) })
	}
	return giveUp
}

// toldToEnd is called before the command is told to end: what its checks find from then on is
// that it ends, and it may take any time for that.
func (t *tending) toldToEnd() { t.change(func() { t.told = true }) }

// ended is called when no process of the command is left.
func (t *tending) ended() {
	t.change(func() { t.starts, t.job = false, nil }) // nothing is withdrawn: the release follows, or restarting
}

// restarting withdraws what the command has advertised.
func (t *tending) restarting(end outcome) {
	t.change(func() { t.ready, t.status = false, "" })
	t.o.service.status("owner; COMMAND " + end.String())
}

// seen is what is known now, and a channel that is closed when it has changed.
type seen struct {
	starts  bool
	job     *job
	ready   bool
	ends    bool // in order: no limit of a check ends it
	failed  bool
	why     error
	changed <-chan struct{}
}

func (t *tending) look() seen {
	t.mu.Lock()
	defer t.mu.Unlock()
	return seen{t.starts, t.job, t.ready, t.stops || t.told, t.failed, t.why, t.changed}
}

// notReadyWarning is after which time it is said that the command is not ready.
const notReadyWarning = 30 * time.Second

// awaitReady warns, or gives up, where the command is not ready in time. One that ends need
// not get ready.
func (t *tending) awaitReady(j *job, giveUp chan<- error) {
	warn := time.NewTimer(notReadyWarning)
	defer warn.Stop()
	var limit <-chan time.Time
	if d := t.o.Checks.ReadyTimeout; d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		limit = timer.C
	}
	for {
		now := t.look()
		if now.job != j || now.ready || now.ends {
			return
		}
		select {
		case <-now.changed:
		case <-warn.C:
			t.o.warnSoon(fmt.Errorf("COMMAND is not ready after %v, so nothing is advertised: %w (--ready-timeout bounds the wait)", notReadyWarning, t.look().why))
		case <-limit:
			giveUp <- &NotReadyError{t.o.Checks.ReadyTimeout, t.look().why.Error()}
			return
		case <-t.ctx.Done():
			return
		}
	}
}

// becomesReady reports the command ready, if it still runs.
func (t *tending) becomesReady(j *job) {
	t.change(func() {
		if t.job == j {
			t.ready = true
			t.ping()
		}
	})
	t.tellService()
}

func (t *tending) ping() {
	select {
	case t.pings <- struct{}{}:
	default:
	}
}

// publishGap bounds how often the record is written, whatever the command says of itself.
const publishGap = 100 * time.Millisecond

// publish keeps in the record what the command is to advertise.
func (t *tending) publish() {
	var (
		endpoint string
		meta     map[string]string
	)
	for {
		wantEndpoint, wantMeta, changed := t.facts()
		if wantEndpoint == endpoint && maps.Equal(wantMeta, meta) {
			select {
			case <-changed:
				continue
			case <-t.ctx.Done():
				return
			}
		}
		err := t.advertise(wantEndpoint, wantMeta)
		if err == nil {
			endpoint, meta = wantEndpoint, wantMeta
		} else if t.ctx.Err() == nil && t.own.IsOwner() {
			t.warnOnce(fmt.Errorf("still advertising: %w", err))
		}
		select {
		case <-time.After(publishGap):
		case <-t.ctx.Done():
			return
		}
	}
}

// facts are what is to be advertised.
func (t *tending) facts() (endpoint string, meta map[string]string, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ready && !t.stops {
		endpoint, meta = t.endpoint, maps.Clone(t.meta)
	}
	if t.status != "" {
		if meta == nil {
			meta = map[string]string{}
		}
		meta[StatusMetaKey] = t.status
	}
	return endpoint, meta, t.changed
}

// advertise leaves the status out where there is no room for it beside what was asked for.
func (t *tending) advertise(endpoint string, meta map[string]string) error {
	err := t.own.Advertise(t.ctx, endpoint, meta)
	if errors.Is(err, owner.ErrInvalidConfig) {
		meta = maps.Clone(meta)
		delete(meta, StatusMetaKey)
		if s, ok := t.meta[StatusMetaKey]; ok && endpoint != "" {
			meta[StatusMetaKey] = s
		}
		err = t.own.Advertise(t.ctx, endpoint, meta)
	}
	return err
}

// warnOnce warns of each thing once.
func (t *tending) warnOnce(err error) {
	t.mu.Lock()
	again := t.warned[err.Error()] || len(t.warned) > 100
	t.warned[err.Error()] = true
	t.mu.Unlock()
	if !again {
		t.o.warnSoon(err)
	}
}

// tellService passes on to the service manager what has changed.
func (t *tending) tellService() {
	t.mu.Lock()
	text, ready := fmt.Sprintf("owner, epoch %d", t.own.Epoch()), t.ready
	if t.job != nil && !t.ready {
		text += "; COMMAND is not ready yet"
	}
	if t.status != "" {
		text += ": " + t.status
	}
	t.mu.Unlock()
	t.o.service.status(text)
	if ready {
		t.o.service.ready()
	}
}

// order is a probe as it is run: in this process's folder, as the command is.
func (t *tending) order(probe []string) probeOrder {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	return probeOrder{limit: t.o.Checks.Limit, dir: dir, path: probe[0], args: probe}
}
