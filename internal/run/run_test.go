package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

func TestMarginIsWhatTheLeaseTakes(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 99 * time.Millisecond, time.Second, 10 * time.Second, time.Hour} {
		largest := largestGrace(t, ttl)
		for _, grace := range []time.Duration{0, DefaultGrace(ttl), largest} {
			m, err := margin(ttl, grace)
			if err != nil {
				t.Errorf("ttl %v, grace %v: %v", ttl, grace, err)
				continue
			}
			o, err := owner.Join(context.Background(), owner.Config{LeasePath: filepath.Join(t.TempDir(), "lease"), TTL: ttl, RenewInterval: ttl / 3, SafetyMargin: m})
			if errors.Is(err, owner.ErrInvalidConfig) {
				t.Errorf("ttl %v, grace %v: %v", ttl, grace, err)
			}
			if err == nil { // on a busy machine, the shortest lease can be over before it is won
				_ = o.Release()
			}
		}
		for _, grace := range []time.Duration{-time.Millisecond, largest + time.Millisecond, ttl, 3 * ttl} {
			_, err := margin(ttl, grace)
			if err == nil {
				t.Fatalf("ttl %v, grace %v: taken, and %v is the largest", ttl, grace, largest)
			}
			_, hint, ok := strings.Cut(err.Error(), "it needs a ttl of ")
			if ok == (grace < 0) {
				t.Errorf("ttl %v: %v", ttl, err)
			}
			if !ok {
				continue
			}
			longer, bad := time.ParseDuration(hint)
			if _, err := margin(longer, grace); bad != nil || err != nil {
				t.Errorf("the hint %q does not help: %v", hint, err)
			}
		}
	}
}

// largestGrace asks for far too much, and reads what would fit.
func largestGrace(t *testing.T, ttl time.Duration) time.Duration {
	t.Helper()
	_, err := margin(ttl, 1000*ttl)
	if err == nil {
		t.Fatalf("ttl %v: a grace of as much again, and more, fits", ttl)
	}
	_, text, _ := strings.Cut(err.Error(), "0s to ")
	text, _, _ = strings.Cut(text, " ")
	largest, bad := time.ParseDuration(text)
	if bad != nil {
		t.Fatal(err)
	}
	return largest
}

func TestDefaultGraceMakesTheDefaultMargin(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{20 * time.Millisecond, time.Second, 10 * time.Second} {
		if m, err := margin(ttl, DefaultGrace(ttl)); err != nil || m != ttl/4 {
			t.Errorf("ttl %v: margin %v, %v", ttl, m, err)
		}
	}
}

func TestUntilKill(t *testing.T) {
	t.Parallel()
	const ttl = 10 * time.Second
	for _, c := range []struct{ since, most time.Duration }{
		{7500 * time.Millisecond, 2 * time.Second}, // at the fence
		{time.Second, 8500 * time.Millisecond},     // taken over: it lasts for longer
		{10 * time.Second, -500 * time.Millisecond},
		{time.Hour, 0}, // stopped
	} {
		got := untilKill(&owner.LostError{At: time.Now(), SinceRenewal: c.since}, ttl)
		if got > c.most || c.since < ttl && got < c.most-time.Second {
			t.Errorf("%v since the renewal: KILL in %v, want %v", c.since, got, c.most)
		}
	}
	if got := untilKill(&owner.LostError{At: time.Now().Add(-3 * time.Second), SinceRenewal: 7500 * time.Millisecond}, ttl); got > 0 {
		t.Errorf("KILL in %v, after a loss that was noticed late", got)
	}
}

// owned returns the owner of a lease, and how to join it.
func owned(t *testing.T) (*owner.Owner, owner.Config) {
	t.Helper()
	cfg := owner.Config{LeasePath: filepath.Join(t.TempDir(), "lease"), TTL: 10 * time.Second}
	holder, err := owner.Join(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Release() })
	return holder, cfg
}

func TestAwait(t *testing.T) {
	t.Parallel()
	holder, cfg := owned(t)
	signals := make(chan os.Signal, 1)

	var held *HeldError
	_, err := (&Options{service: &service{}, Config: cfg, Nonblock: true}).await(signals)
	if !errors.As(err, &held) || held.Waited != 0 || held.Holder.InstanceID != holder.InstanceID() {
		t.Errorf("nonblock: %v, %+v", err, held)
	}
	_, err = (&Options{service: &service{}, Config: cfg, Wait: 50 * time.Millisecond}).await(signals)
	if !errors.As(err, &held) || held.Waited == 0 || held.Holder.InstanceID != holder.InstanceID() {
		t.Errorf("timeout: %v, %+v", err, held)
	}
	signals <- syscall.SIGTERM
	var ended *SignalError
	if _, err = (&Options{service: &service{}, Config: cfg}).await(signals); !errors.As(err, &ended) || ended.Signal != syscall.SIGTERM {
		t.Errorf("signal: %v", err)
	}

	time.AfterFunc(20*time.Millisecond, func() { _ = holder.Release() })
	o, err := (&Options{service: &service{}, Config: cfg, Wait: time.Minute}).await(signals)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Release()
	signals <- syscall.SIGTERM
	if err := o.Check(); err != nil || o.Context().Err() != nil {
		t.Errorf("what ended a wait has ended the ownership: %v", err)
	}
}

// Errors during the wait are reported.
func TestAwaitInTrouble(t *testing.T) {
	t.Parallel()
	_, cfg := owned(t)
	signals := make(chan os.Signal, 1)
	var warnings []error // one at a time
	warn := func(err error) {
		warnings = append(warnings, err)
		signals <- syscall.SIGTERM
	}
	cfg.OnTransition = func(t owner.Transition) {
		if t.Event == "refused" { // the owner's next renewal repairs it, seconds later
			_ = os.WriteFile(cfg.LeasePath, []byte("a shopping list"), 0o600)
		}
	}
	var ended *SignalError
	if _, err := (&Options{service: &service{}, Config: cfg, Wait: time.Minute, Warn: warn}).await(signals); !errors.As(err, &ended) {
		t.Errorf("await: %v", err)
	}
	if len(warnings) != 1 || !errors.Is(warnings[0], owner.ErrCorruptRecord) {
		t.Errorf("reported %v", warnings)
	}
}

// A record that can be this process's is not another's until it is seen again.
func TestMirror(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	rec := func(id string, pid int, host string) owner.Record {
		return owner.Record{InstanceID: id, PID: pid, Host: host}
	}
	var m Mirror
	for i, step := range []struct {
		rec  owner.Record
		want bool
	}{
		{rec("a", os.Getpid()+1, host), false},
		{rec("b", os.Getpid(), host+"x"), false},
		{rec("c", os.Getpid(), host), true},
		{rec("d", os.Getpid(), host), true},
		{rec("d", os.Getpid(), host), false},
		{owner.Record{}, false},
	} {
		if got := m.Shows(step.rec); got != step.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// A silentStore is one that does not answer.
type silentStore struct{ owner.Store }

func (silentStore) Acquire(context.Context, owner.Record) (owner.Acquisition, error) {
	return owner.Acquisition{}, fmt.Errorf("no answer: %w", owner.ErrUnavailable)
}

// A wait that ends has the reason for which the lease could not be joined.
func TestWaitEndsWithItsReason(t *testing.T) {
	o := Options{
		Config:  owner.Config{Store: silentStore{ownertest.NewMemory()}, TTL: time.Second},
		Wait:    200 * time.Millisecond,
		service: newService(nil),
	}
	defer o.service.close()
	_, err := o.await(nil)
	var held *HeldError
	if !errors.As(err, &held) || !errors.Is(held.Err, owner.ErrUnavailable) {
		t.Errorf("%v, %+v", err, held)
	}
}
