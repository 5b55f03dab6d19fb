package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ownerlease/owner/internal/sdnotify"
)

// firstProbe is the pause after the first probe that has found the command not ready. It
// doubles up to the interval.
const firstProbe = 100 * time.Millisecond

// probeReady tries until the command is ready, or has ended.
func (t *tending) probeReady(j *job) {
	for pause := firstProbe; ; pause = min(2*pause, t.o.Checks.Interval) {
		err := j.probe(t.ctx, t.order(t.o.Checks.Ready))
		if err == nil {
			t.becomesReady(j)
			return
		}
		t.mu.Lock()
		t.why = fmt.Errorf("--ready-cmd: %w", err)
		t.mu.Unlock()
		if !t.sleep(t.ctx, j, pause) {
			return
		}
	}
}

// sleep is false where the command has ended meanwhile, or ctx.
func (t *tending) sleep(ctx context.Context, j *job, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		now := t.look()
		if now.job != j {
			return false
		}
		select {
		case <-timer.C:
			return true
		case <-now.changed:
		case <-ctx.Done():
			return false
		}
	}
}

// mustBeHealthy is false of a command that does not run, is not ready yet, or ends: it stops
// answering then, and the lease is to be kept until it has ended.
func (s seen) mustBeHealthy() bool { return s.job != nil && s.ready && !s.ends }

// healthyByProbe is the lease's Healthy where a probe says whether the command is.
func (t *tending) healthyByProbe(ctx context.Context) error {
	now := t.look()
	if !now.mustBeHealthy() {
		return nil
	}
	ctx, stop := t.whileHealthMatters(ctx, now.job)
	defer stop()
	if !t.sleep(ctx, now.job, time.Until(t.nextProbe)) {
		return nil
	}
	t.nextProbe = time.Now().Add(t.o.Checks.Interval)
	err := now.job.probe(ctx, t.order(t.o.Checks.Health))
	if again := t.look(); err == nil || again.job != now.job || !again.mustBeHealthy() {
		return nil
	}
	return fmt.Errorf("--health-cmd: %w", err)
}

// whileHealthMatters ends when the command need not be healthy any more: a probe that hangs
// then must not use up what is left of the health timeout.
func (t *tending) whileHealthMatters(ctx context.Context, j *job) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for now := t.look(); now.job == j && now.mustBeHealthy(); now = t.look() {
			select {
			case <-now.changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// healthyByPing is the same where the command sends WATCHDOG=1. It waits for one, so that
// the time of the next counts from then.
func (t *tending) healthyByPing(ctx context.Context) error {
	patience := time.NewTimer(t.o.Config.HealthTimeout / 4)
	defer patience.Stop()
	for {
		now := t.look()
		if now.job != nil && now.ready && now.failed { // also while it ends: it says that it cannot
			return errors.New("COMMAND has sent WATCHDOG=trigger")
		}
		if !now.mustBeHealthy() {
			return nil
		}
		select {
		case <-t.pings:
			return nil
		case <-now.changed:
		case <-patience.C:
			return errors.New("COMMAND has not sent WATCHDOG=1 to $NOTIFY_SOCKET in time")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// note takes a message, if one of the command's processes has sent it.
func (t *tending) note(pid int, m sdnotify.Message) {
	now := t.look()
	for ; now.starts; now = t.look() {
		<-now.changed
	}
	if now.job == nil {
		return
	}
	switch now.job.owns(pid) {
	case senderOurs:
	case senderGone:
		t.warnOnce(errors.New("ignored a message to $NOTIFY_SOCKET: its sender has ended, and cannot be told from a stranger (it has to wait, as systemd-notify does)"))
		return
	default:
		t.warnOnce(errors.New("ignored a message to $NOTIFY_SOCKET of a process that COMMAND has not started"))
		return
	}
	t.heed(now.job, m)
}

// heed does what a message of the command says.
func (t *tending) heed(j *job, m sdnotify.Message) {
	if m.Alive {
		t.ping()
	}
	if m.Ready {
		t.becomesReady(j)
	}
	if !m.Stopping && !m.Failed && m.Status == nil {
		return
	}
	t.change(func() {
		t.stops = t.stops || m.Stopping
		t.failed = t.failed || m.Failed
		if m.Status != nil {
			t.status = *m.Status
		}
	})
	t.tellService()
}
