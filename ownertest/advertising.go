package ownertest

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ownerlease/owner"
)

// What a store promises of the metadata that an owner changes.

// advertise changes what the owner tells of itself.
func (h *tenure) advertise(meta map[string]string) error {
	h.c.Helper()
	var err error
	h.c.returns("Advertise", func() { err = h.Lease.Advertise(h.c.Context(), maps.Clone(meta)) })
	return err
}

// advertised changes it, and checks that others see that at once, and after a renewal.
func (h *tenure) advertised(meta map[string]string) {
	h.c.Helper()
	h.c.must("Advertise", h.advertise(meta))
	h.Holder.Meta = meta
	h.c.owned(h)
	h.c.must("Renew, after Advertise", h.renew())
	h.c.owned(h)
	h.c.refused(h)
}

// What is advertised replaces what was there, whatever its size, and stays.
func advertise(c *check) {
	h := c.take(long)
	h.advertised(map[string]string{owner.EndpointMetaKey: "unix:/run/advertised.sock"})
	h.advertised(map[string]string{"facts": strings.Repeat("much ", 500)})
	h.advertised(map[string]string{"a": "<\"\\\n\x00\u2028>"})
	h.advertised(nil)
	h.advertised(map[string]string{"last": "of all"})
	c.must("Release", h.release())
	next := c.take(long) // with its own
	c.owned(next)
}

// It is no renewal: a lease expires in which only that is done.
func advertiseIsNoRenewal(c *check) {
	h := c.take(c.ttl)
	expired := make(chan struct{})
	var advertising sync.WaitGroup
	advertising.Go(func() {
		for n := 0; ; n++ {
			_ = h.Lease.Advertise(context.Background(), map[string]string{"n": strconv.Itoa(n)})
			select {
			case <-expired:
				return
			case <-time.After(c.ttl / 20):
			}
		}
	})
	defer advertising.Wait()
	defer close(expired)
	c.owned(c.succeed(h, long))
}

// An owner that has lost the lease changes nothing that is another's.
func advertiseAfterLoss(c *check) {
	h := c.take(c.ttl)
	next := c.succeed(h, long)
	_ = h.advertise(map[string]string{"of": "an owner of the past"})
	c.owned(next)
	c.must("Release", next.release())
	next = c.take(long)
	_ = h.advertise(map[string]string{"of": "an owner of the past"})
	c.owned(next)
	c.must("Renew", next.renew())
}

// Watchers get a hint.
func advertiseHints(c *check) {
	h := c.take(long)
	w := c.watch(h.Holder)
	w.settle()
	h.advertised(map[string]string{"there": "is more"})
	w.hinted("an advertisement")
	w.settle()
	h.advertised(map[string]string{"there": "is even more"})
	w.hinted("a second advertisement")
}
