// Package contend has several contenders compete for one lease of a store, while its
// servers and their networks have faults. What they have seen is judged as in the torture
// run: never two valid owners, epochs that only grow, the margin kept, and an owner when it
// is over.
package contend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/history"
)

// A Link is a contender's way to the servers.
type Link interface {
	Cut()                   // holds everything back, until Heal
	Deafen()                // holds the answers back, until Heal; requests arrive
	Delay(by time.Duration) // makes answers take this much longer, until Heal
	Break()                 // ends the connections that there are
	Heal()
}

// A Trial is a lease, its contenders, and what they have seen.
type Trial[L Link] struct {
	*testing.T
	Key string
	TTL time.Duration
	Now func() time.Duration // the clock of all instances, as they are on one machine

	// Connect returns a store for one more contender, as in a process of its own.
	Connect func() (owner.Store, L)

	Contenders []*Contender[L]
	Stormy     bool // a release may fail

	disturbed []history.Span

	mu      sync.Mutex
	tenures []history.Tenure
}

// Contend adds a contender.
func (tr *Trial[L]) Contend() *Contender[L] {
	tr.Helper()
	return tr.ContendBy(tr.Connect())
}

// ContendBy adds a contender by way of this link.
func (tr *Trial[L]) ContendBy(store owner.Store, link L) *Contender[L] {
	tr.Helper()
	ctx, leave := context.WithCancel(context.Background())
	c := tr.newContender(store, link)
	c.leave = leave
	tr.Contenders = append(tr.Contenders, c)
	go c.compete(ctx)
	tr.Cleanup(c.Leaves)
	return c
}

func (tr *Trial[L]) tell(t history.Tenure) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.tenures = append(tr.tenures, t)
}

// Owner waits until one of the contenders owns.
func (tr *Trial[L]) Owner() (by *Contender[L]) {
	tr.Helper()
	Await(tr, "an owner", func() bool {
		by = tr.Owning()
		return by != nil
	})
	return by
}

// Settles waits until a contender owns, and has renewed since.
func (tr *Trial[L]) Settles() *Contender[L] {
	tr.Helper()
	for {
		c := tr.Owner()
		from := c.Spy.From()
		Await(tr, "a renewal", func() bool { return c.Spy.From() > from || !c.Owns() })
		if c.Owns() {
			return c
		}
	}
}

// Renews demands that the contender continues to own, and renews this many times.
func (tr *Trial[L]) Renews(c *Contender[L], times int) {
	tr.Helper()
	for range times {
		from := c.Spy.From()
		Await(tr, "a renewal", func() bool { return c.Spy.From() > from || !c.Owns() })
	}
	if !c.Owns() {
		tr.Errorf("%s does not own the lease any more", c.Name)
	}
}

// Looked waits until each but the owner has read the lease once more from the beginning.
func (tr *Trial[L]) Looked(all ...*Contender[L]) {
	tr.Helper()
	for _, c := range all {
		begun := c.Spy.begun.Load()
		Await(tr, c.Name+" to read", func() bool { return c.Spy.ended.Load() > begun || c.Owns() })
	}
}

// Disturb does something during which no contender can be expected to acquire the lease.
func (tr *Trial[L]) Disturb(do func()) {
	from := tr.Now()
	do()
	tr.disturbed = append(tr.disturbed, history.Span{From: from, To: tr.Now()})
}

// patience is with a lease that is free, wanted, and not disturbed. It ends a hang, as
// a machine can be busy.
const patience = 20 * time.Second

// Judge ends the trial, and has what was seen judged.
func (tr *Trial[L]) Judge() {
	tr.Helper()
	for _, c := range tr.Contenders {
		c.leave()
	}
	for _, c := range tr.Contenders {
		c.Leaves()
	}
	h := history.History{Tenures: tr.tenures, Disturbed: map[string][]history.Span{tr.Key: tr.disturbed}}
	v, err := h.Check(patience)
	if err != nil {
		tr.Error(err)
	}
	tr.write()
	for _, x := range v.Violations {
		tr.Error(x)
	}
	tr.kept()
	var all strings.Builder
	for _, t := range tr.tenures {
		fmt.Fprintf(&all, "\n%v, expiry %v", &t, t.Expiry)
	}
	tr.Log(all.String())
}

// write writes the tenures where the environment says, for a second opinion: see
// lab/order.
func (tr *Trial[L]) write() {
	tr.Helper()
	dir := os.Getenv("OWNER_HISTORIES")
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, "*.json")
	if err != nil {
		tr.Fatal(err)
	}
	for i := range tr.tenures {
		err = errors.Join(err, json.NewEncoder(f).Encode(&tr.tenures[i]))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		tr.Fatal(err)
	}
}

// kept demands more than the margin, which is all that an Owner promises: a lost lease
// that is not released has no other owner until it has expired, whatever was deleted.
func (tr *Trial[L]) kept() {
	tr.Helper()
	for _, a := range tr.tenures {
		for _, b := range tr.tenures {
			if a.Epoch > 0 && a.Epoch < b.Epoch && a.End != history.Released && b.Owned > 0 && b.Owned < a.Expiry {
				tr.Errorf("not kept until it had expired, at %v:\n%v\n%v", a.Expiry, &a, &b)
			}
		}
	}
}

// Await waits until something is so.
func Await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}
