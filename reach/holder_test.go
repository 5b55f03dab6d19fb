package reach

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// An owner that has moved is the same owner: when it is replaced, what it was asked where it
// was before is revoked as well.
func TestRevokedWhereItWasBefore(t *testing.T) {
	store, asked := ownertest.NewMemory(), make(chan struct{}, 1)
	o := pretend(t, store, func(c net.Conn, r *http.Request) {
		acknowledge(c, r)
		asked <- struct{}{}
		<-t.Context().Done() // it hangs
	})
	c := newClient(t, store)
	answer := askLater(t, c, "GET", "/", "")
	<-asked
	changed := c.running().state().changed
	must(t, o.Advertise(t.Context(), "unix:"+leasePath(t), nil))
	<-changed
	must(t, o.Release())
	serve(t, store, &Server{Handler: says("the next")})
	if got := <-answer; got != "the next" {
		t.Error(got)
	}
}

// Accept and Dial get what the owner advertises now.
func TestAcceptOfAnAdvertisement(t *testing.T) {
	store := ownertest.NewMemory()
	v := serve(t, store, &Server{Handler: says("hi")})
	var version atomic.Value
	c := newClient(t, store, func(c *Client) {
		c.Accept = func(rec owner.Record) error {
			version.Store(rec.Meta["version"])
			if rec.Meta["version"] == "1" {
				return errors.New("another version")
			}
			return nil
		}
	})
	if _, err := c.RoundTrip(request(t, "GET", "/", nil)); err == nil || version.Load() != "1" {
		t.Fatal(err, version.Load())
	}
	meta := maps.Clone(v.Holder().Meta)
	delete(meta, owner.EndpointMetaKey)
	meta["version"] = "2"
	changed := c.running().state().changed
	must(t, v.Advertise(context.Background(), v.Endpoint(), meta))
	<-changed
	if got := ask(t, c, "GET", "/", ""); got != "hi" || version.Load() != "2" {
		t.Error(got, version.Load())
	}
	conn, rec, err := c.Dial(t.Context())
	must(t, err)
	_ = conn.Close()
	if rec.Meta["version"] != "2" {
		t.Error(rec.Meta)
	}
}
