package owner

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ownerlease/owner/internal/disk"
)

func TestMain(m *testing.M) {
	if child, ok := os.LookupEnv(childEnv); ok {
		os.Exit(runChild(child))
	}
	goleak.VerifyTestMain(m)
}

// Each way in which an Owner can end leaves no goroutine behind. These run on the
// real clock and the real file system: what waits, waits for an event.

const shortTTL = 300 * time.Millisecond

func short(c *Config) { c.TTL = shortTTL }

func TestNoLeakReleased(t *testing.T) {
	defer goleak.VerifyNone(t)
	o := joinFile(t, leasePath(t), watched)
	must(t, o.Release())
	<-o.Done()
}

func TestNoLeakLostByDeadline(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := newFakeStore()
	s.onRenew = func(context.Context) error { return errors.New("I/O error") }
	o := join(t, context.Background(), s, short)
	<-o.Lost()
	<-o.Done()
	if !errors.Is(o.LostErr(), ErrExpired) {
		t.Error(o.LostErr())
	}
}

func TestNoLeakLostByTakeover(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := leasePath(t)
	o := joinFile(t, p, short, watched)
	plant(t, p+".new", nil)
	must(t, disk.OS.Replace(p+".new", p))
	<-o.Lost()
	<-o.Done()
	if !errors.Is(o.LostErr(), ErrTakenOver) {
		t.Error(o.LostErr())
	}
}

func TestNoLeakContextEnded(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(context.Background())
	o := join(t, ctx, newFakeStore())
	cancel()
	<-o.Done()
	goleak.VerifyNone(t) // at once, while it still owns
	if !o.IsOwner() {
		t.Error("the ownership ended with its context")
	}
	must(t, o.Release())
}

func TestNoLeakContextEndedThenLost(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(context.Background())
	o := join(t, ctx, newFakeStore(), short)
	cancel()
	<-o.Done()
	<-o.Lost()
}

func TestNoLeakFollower(t *testing.T) {
	s := newFakeStore()
	o := join(t, context.Background(), s)
	defer o.Release()
	ignore := goleak.IgnoreCurrent() // the owner's actor
	f := join(t, context.Background(), s)
	<-f.Done()
	goleak.VerifyNone(t, ignore)
}

func TestNoLeakFailedJoin(t *testing.T) {
	defer goleak.VerifyNone(t)
	if _, err := Join(context.Background(), Config{LeasePath: t.TempDir(), TTL: time.Minute}); !errors.Is(err, ErrInvalidConfig) {
		t.Error(err)
	}
}

// A store that hangs keeps only its own goroutine, for as long as it hangs; when it
// answers, that ends, too.
func TestNoLeakHungStore(t *testing.T) {
	s := newFakeStore()
	hung, answer := hang()
	s.onRenew = hung
	o := join(t, context.Background(), s, short)
	<-o.Lost()
	<-o.Done()
	answer()
	goleak.VerifyNone(t)
	if o.IsOwner() || o.State() != StateLost {
		t.Errorf("a late answer has changed something: %v", o.State())
	}
}

func TestNoLeakHungJoin(t *testing.T) {
	s := newFakeStore()
	hung, answer := hang()
	s.onAcquire = hung
	if _, err := Join(context.Background(), Config{Store: s, TTL: shortTTL}); !errors.Is(err, errNoAnswer) {
		t.Error(err)
	}
	answer()
	goleak.VerifyNone(t)
	if !s.free() {
		t.Error("the late win was not given back")
	}
}

func TestNoLeakHungRelease(t *testing.T) {
	s := newFakeStore()
	hung, answer := hang()
	s.onRelease = hung
	o := join(t, context.Background(), s, short)
	if err := o.Release(); !errors.Is(err, errReleaseHangs) {
		t.Error(err)
	}
	<-o.Done()
	answer()
	goleak.VerifyNone(t)
}
