package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/reach"
)

// A kind of request.
type kind string

const (
	get    kind = "get"
	stream kind = "get, streamed answer"
	post   kind = "post"
	keyed  kind = "post with a key"
	large  kind = "post, 200 KB"      // without GetBody
	upload kind = "post, slow body"   // which is read again from memory, too
	cancel kind = "post, given up on" // its context ends early
)

var kinds = []kind{get, stream, post, keyed, large, upload, cancel}

// safe and repeatable requests may run twice.
func (k kind) safe() bool       { return k == get || k == stream }
func (k kind) repeatable() bool { return k.safe() || k == keyed }

// A way from a client to the owner.
type way string

const (
	direct    way = "client"    // by a reach.Client
	forwarded way = "forward"   // by a reach.Forward that no fault meets
	viaNode   way = "node"      // by the port of a reach.Node, which may be killed
	relayed   way = "forwarded" // to such a port, and marked as forwarded before
	stale     way = "address"   // to the owner's endpoint, and meant for a former owner
)

var ways = []way{direct, forwarded, viaNode, relayed, stale}

// promises reports whether this package is at both ends of the way: only then does a cut
// connection tell anything.
func (w way) promises() bool { return w == direct || w == forwarded }

// What a client was told.
type outcome string

const (
	answered outcome = "answered"
	noOwner  outcome = "no owner"
	unknown  outcome = "unknown"
	failed   outcome = "failed"
	cutShort outcome = "cut short" // an answer that has begun has not ended
	noNode   outcome = "no node"   // a connection of plain HTTP was cut, which promises nothing
	refused  outcome = "refused"   // not forwarded again
)

var outcomes = []outcome{answered, noOwner, unknown, cutShort, noNode, refused, failed}

// A request is what was sent, and what the client was told.
type request struct {
	ID       string
	Kind     kind
	Short    bool `json:",omitempty"` // its handler has no work
	Way      way
	Lease    string
	TCP      bool   // the owner listens on TCP
	Target   string `json:",omitempty"` // the worker whose port it was sent to
	Start    time.Duration
	End      time.Duration
	Outcome  outcome
	Instance string `json:",omitempty"` // which has answered
	Epoch    uint64 `json:",omitempty"`
	Err      string `json:",omitempty"`
}

func (r *request) stall() time.Duration { return r.End - r.Start }

const largeBody = 200_000

// draw makes a request of a random kind.
func draw(rng *rand.Rand, id string) request {
	r := request{ID: id, Kind: kinds[rng.IntN(len(kinds))]}
	switch n := rng.IntN(20); {
	case n < 10 || r.Kind == cancel:
		r.Way = direct
	case n < 14:
		r.Way = forwarded
	case n < 18:
		r.Way = viaNode
	case n < 19:
		r.Way = relayed
	default:
		r.Way = stale
	}
	return r
}

// shorten makes it one that takes no time by itself.
func (r *request) shorten(rng *rand.Rand) {
	r.Short, r.Kind, r.Way = true, []kind{get, post, keyed}[rng.IntN(3)], ways[rng.IntN(2)]
}

// build makes the HTTP request. host matters only where it does not go by a Client.
func (r *request) build(ctx context.Context, rng *rand.Rand, host string) (*http.Request, error) {
	work := time.Duration(rng.Int64N(int64(6 * time.Millisecond)))
	if r.Short {
		work = 0
	}
	url := fmt.Sprintf("http://%s/?id=%s&work=%v", host, r.ID, work)
	method, body := http.MethodPost, io.Reader(bytes.NewReader([]byte("small")))
	switch r.Kind {
	case get, stream:
		method, body = http.MethodGet, nil
	case large:
		body = struct{ io.Reader }{bytes.NewReader(make([]byte, largeBody))} // hides what net/http knows
	case upload:
		body = &slowBody{left: slowParts}
	}
	if r.Kind == stream {
		url += "&stream"
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if r.Kind == keyed {
		req.Header.Set("Idempotency-Key", "key-"+r.ID)
	}
	switch r.Way {
	case relayed:
		req.Header.Set("Owner-Forwarded", "1")
	case stale:
		req.Header.Set("Owner-Instance", "00000000-0000-4000-8000-000000000000")
		req.Header.Set("Owner-Epoch", "1")
	}
	return req, nil
}

// size is that of the request's body.
func (r *request) size() int64 {
	switch r.Kind {
	case get, stream:
		return 0
	case large:
		return largeBody
	case upload:
		return slowParts * slowPart
	}
	return int64(len("small"))
}

const (
	slowParts = 4
	slowPart  = 1000
)

// A slowBody comes in parts.
type slowBody struct{ left int }

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	b.left--
	time.Sleep(time.Millisecond)
	return min(len(p), slowPart), nil // net/http's buffers are larger than a part
}

// send sends it and notes what has become of it.
func (r *request) send(ctx context.Context, rt http.RoundTripper, rng *rand.Rand, host string) {
	if r.Kind == cancel {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.Int64N(int64(8*time.Millisecond))))
		defer cancel()
	}
	r.Start = clock.Now()
	req, err := r.build(ctx, rng, host)
	var resp *http.Response
	if err == nil {
		resp, err = rt.RoundTrip(req)
	}
	if err == nil {
		err = r.read(resp)
	} else {
		r.fail(err)
	}
	r.End = clock.Now()
	if err != nil {
		r.Err = err.Error()
	}
}

// fail notes an error instead of an answer.
func (r *request) fail(err error) {
	switch {
	case !r.Way.promises():
		r.Outcome = noNode
	case errors.Is(err, reach.ErrOutcomeUnknown):
		r.Outcome = unknown
	case errors.Is(err, reach.ErrNoOwner):
		r.Outcome = noOwner
	default:
		r.Outcome = failed
	}
}

// read reads the answer.
func (r *request) read(resp *http.Response) error {
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	h := resp.Header
	switch {
	case resp.StatusCode == http.StatusOK:
		r.Outcome, r.Instance = answered, h.Get(headerBy)
		r.Epoch, _ = strconv.ParseUint(h.Get(headerEpoch), 10, 64)
		if err != nil {
			r.Outcome = cutShort
			return err
		}
		return r.compare(h.Get(headerGot), n)
	case h.Get("Owner-Outcome") == "unknown":
		r.Outcome = unknown
	case resp.StatusCode == http.StatusMisdirectedRequest && h.Get("Owner-Begun") == "no" && (r.Way == relayed || r.Way == stale):
		r.Outcome = refused
	case resp.StatusCode == http.StatusServiceUnavailable && h.Get("Owner-Begun") == "no":
		r.Outcome = noOwner
	default:
		r.Outcome = failed
	}
	return fmt.Errorf("status %d", resp.StatusCode)
}

// compare compares the bytes that have arrived with those that were sent, both ways.
func (r *request) compare(got string, answer int64) error {
	want := int64(len("done\n"))
	if r.Kind == stream {
		want = parts * partSize
	}
	if got == strconv.FormatInt(r.size(), 10) && answer == want {
		return nil
	}
	r.Outcome = failed
	return fmt.Errorf("%s bytes of %d have arrived, and %d of %d have come back", got, r.size(), answer, want)
}
