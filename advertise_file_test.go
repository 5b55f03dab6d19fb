package owner

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/disk"
)

// On real files with real hints. That there is a hint of each advertisement, the suite of
// stores tests; these tests would wait for a poll.

func TestAdvertiseIsSeen(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	standby := joinFile(t, p, watched, func(c *Config) { c.Standby = true })
	standbySees, watchSees := make(chan string), make(chan string)
	go func() {
		for r := range standby.Holders(t.Context()) {
			standbySees <- advertisedIn(r)
		}
		close(standbySees)
	}()
	go func() {
		for r, err := range Watch(t.Context(), p) {
			if err == nil {
				watchSees <- advertisedIn(r)
			}
		}
	}()
	for _, c := range []chan string{standbySees, watchSees} {
		if first := <-c; first != "unix:/run/x.sock" {
			t.Errorf("at first: %q", first)
		}
	}
	for _, endpoint := range []string{"unix:/run/a.sock", "unix:/run/" + strings.Repeat("long", 500), "b"} {
		must(t, o.Advertise(t.Context(), endpoint, nil))
		for _, c := range []chan string{standbySees, watchSees} {
			if seen := <-c; seen != endpoint {
				t.Errorf("%q is seen as %q", endpoint, seen)
			}
		}
		if s, err := Probe(p); err != nil || s.Condition != Live || advertisedIn(s.Record) != endpoint {
			t.Errorf("Probe: %+v, %v", s, err)
		}
		must(t, o.a.lease.Renew(t.Context(), clock.Now()))
	}
	must(t, standby.Release())
	<-standbySees // closed
}

// A reader sees the old facts or the new ones, also while they are written.
func TestAdvertiseIsReadWhole(t *testing.T) {
	p := leasePath(t)
	o := joinFile(t, p)
	var done atomic.Bool
	reads := make(chan error, 1)
	go func() {
		var err error
		for s := storeAt(p); !done.Load() && err == nil; {
			var v View
			if v, err = s.readView(); err == nil && v.Holder.InstanceID != o.InstanceID() {
				t.Errorf("seen: %+v", v)
			}
		}
		reads <- err
	}()
	for n := range 2000 {
		meta := map[string]string{"k": strings.Repeat("x", n*37%2000)}
		if err := o.a.lease.Advertise(context.Background(), meta); err != nil {
			t.Fatal(err)
		}
	}
	done.Store(true)
	if err := <-reads; err != nil {
		t.Error(err)
	}
}

// What an owner of the past advertises changes nothing.
func TestAdvertiseNoticesTheLoss(t *testing.T) {
	notOnWindows(t)
	p := leasePath(t)
	o := joinFile(t, p)
	plant(t, p+".new", nil)
	must(t, disk.OS.Replace(p+".new", p))
	before := contents(t, p)
	if err := o.Advertise(t.Context(), "unix:/run/y.sock", nil); !errors.Is(err, ErrTakenOver) {
		t.Errorf("advertised: %v", err)
	}
	<-o.Lost() // as the record is checked at once
	if after := contents(t, p); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}
