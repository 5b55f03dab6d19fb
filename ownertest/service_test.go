package ownertest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ownerlease/owner/ownertest"
)

// How to test a service: in simulated time, in which every TTL passes at once, and with
// every fault of a store. Here, two services run, each with its own store; a fault of the
// first one's does not affect the other's.
func TestServiceStopsInTime(t *testing.T) {
	broken := errors.New("connection refused")
	for name, befall := range map[string]func(store *ownertest.Memory){
		"its store hangs":                 func(s *ownertest.Memory) { s.Hang() },
		"its store fails":                 func(s *ownertest.Memory) { s.Fail(broken) },
		"its store is too slow":           func(s *ownertest.Memory) { s.Slow(ttl, ownertest.Renew) },
		"its store answers too late":      func(s *ownertest.Memory) { s.Late(ttl, nil, ownertest.Renew) },
		"no renewal of it is answered":    func(s *ownertest.Memory) { s.Late(0, broken, ownertest.Renew) },
		"another has taken its lease":     func(s *ownertest.Memory) { s.TakeOver() },
		"its record has been removed":     func(s *ownertest.Memory) { s.Revoke() },
		"its store hangs, and recovers":   func(s *ownertest.Memory) { s.Hang(); time.AfterFunc(ttl, func() { s.Heal() }) },
		"its store hangs for a moment":    func(s *ownertest.Memory) { s.Hang(); time.AfterFunc(ttl/4, func() { s.Heal() }) },
		"its store fails, and fails less": func(s *ownertest.Memory) { s.Fail(broken); time.AfterFunc(ttl/4, func() { s.Heal() }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { stopsInTime(t, befall) })
		})
	}
}

// A deed is what a service has done.
type deed struct {
	what  string
	epoch uint64
	at    time.Duration
}

func stopsInTime(t *testing.T, befall func(*ownertest.Memory)) {
	ctx, stop := context.WithCancel(t.Context())
	store := ownertest.NewMemory()
	deeds := make(chan deed, 1000)
	start := time.Now()
	do := func(what string, epoch uint64) { deeds <- deed{what, epoch, time.Since(start)} }
	first := service{name: "a", store: store, do: do, windDown: 4 * time.Second}
	second := service{name: "b", store: store.Peer(), do: do, windDown: 4 * time.Second}
	ended := make(chan error, 2)
	go func() { ended <- first.run(ctx) }()
	synctest.Wait() // until it owns
	go func() { ended <- second.run(ctx) }()

	time.Sleep(time.Minute + time.Second/2)
	befall(store)
	time.Sleep(time.Minute)
	stop()
	<-ended
	<-ended
	close(deeds)
	judge(t, deeds)
}

// judge checks that each service had stopped before the next one started, and that the
// epoch, by which the receiver of a deed detects a late one, has never fallen.
func judge(t *testing.T, deeds <-chan deed) {
	var last deed
	working := ""
	for d := range deeds {
		var name, does string
		_, _ = fmt.Sscan(d.what, &name, &does)
		switch {
		case does == "starts" && working == "":
			working = name
		case name != working:
			t.Errorf("%s after %v, while %s works", d.what, d.at, working)
		case does == "has":
			working = ""
		}
		if d.epoch < last.epoch {
			t.Errorf("%s after %v with epoch %d, after %d", d.what, d.at, d.epoch, last.epoch)
		}
		if idle := d.at - last.at; idle > 2*ttl {
			t.Errorf("no service has worked for %v", idle)
		}
		last = d
	}
	if working != "" || last.at < 2*time.Minute {
		t.Errorf("at the end, %s works; the last deed was after %v", working, last.at)
	}
}
