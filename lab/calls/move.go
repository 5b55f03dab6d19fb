package main

import (
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ownerlease/owner"
)

// move advertises other metadata from time to time, or another way to the same server, as
// an owner may while requests are under way.
func (w *worker) move(o *owner.Owner) {
	first, last := "", ""
	for n := 1; wait(o.Context(), 5*time.Millisecond+rand.N(100*time.Millisecond)); n++ {
		at := o.Endpoint()
		if at == "" {
			continue // it is not prepared yet
		}
		if first == "" {
			first, last = at, otherWay(at, w.Lease+"."+o.InstanceID()[:4])
			defer os.Remove(strings.TrimPrefix(last, "unix:"))
		}
		to := []string{first, last}[rand.N(2)]
		meta := maps.Clone(o.Holder().Meta)
		delete(meta, owner.EndpointMetaKey)
		meta["move"] = strconv.Itoa(n)
		if o.Advertise(o.Context(), to, meta) != nil {
			return // it does not own any more
		}
	}
}

// otherWay is another endpoint that leads to the same server: by a link to its socket, or by
// the name of the host.
func otherWay(endpoint, link string) string {
	if path, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		if os.Symlink(path, link) != nil {
			return endpoint
		}
		return "unix:" + link
	}
	return strings.Replace(endpoint, "127.0.0.1", "localhost", 1)
}
