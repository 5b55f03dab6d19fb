package reach

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ownerlease/owner/internal/leasename"
)

// The headers of the protocol. A request has the first two or neither; a name that
// http.Header would spell otherwise must not be among them.
const (
	headerInstance  = "Owner-Instance"  // the instance that the request is for
	headerEpoch     = "Owner-Epoch"     // and its epoch
	headerToken     = "Owner-Token"     // the secret of an endpoint that other users can connect to
	headerForwarded = "Owner-Forwarded" // the request has been forwarded, and must not be again
	headerAccepted  = "Owner-Accepted"  // of a 103: this instance begins with the request now
	headerBegun     = "Owner-Begun"     // of a 403, 421 or 503, "no": no handler has begun with the request
	headerOutcome   = "Owner-Outcome"   // of a 502, "unknown": a handler may have

	headerKey = "Idempotency-Key"
	otherKey  = "X-Idempotency-Key" // which only net/http knows
	maxKey    = 255

	// metaToken is the key of the secret in the record's metadata.
	metaToken = "reach.token"
)

// An address is the ownership that a request is meant for.
type address struct {
	instance string
	epoch    uint64
}

// addressOf reads the address in a request's headers; ok is false where it has none.
func addressOf(h http.Header) (to address, ok bool, err error) {
	instances, epochs := h[headerInstance], h[headerEpoch]
	if len(instances) == 0 && len(epochs) == 0 {
		return address{}, false, nil
	}
	if len(instances) != 1 || len(epochs) != 1 {
		return address{}, false, fmt.Errorf("want one %s and one %s, have %d and %d", headerInstance, headerEpoch, len(instances), len(epochs))
	}
	if !leasename.IsInstanceID(instances[0]) {
		return address{}, false, errors.New(headerInstance + " is not a UUID")
	}
	epoch, err := strconv.ParseUint(epochs[0], 10, 64)
	if err != nil || epoch == 0 || strconv.FormatUint(epoch, 10) != epochs[0] {
		return address{}, false, errors.New(headerEpoch + " is not a positive decimal number")
	}
	return address{instances[0], epoch}, true, nil
}

// isSafe reports whether a method asks for no effect (RFC 9110, 9.2.1).
func isSafe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// idempotencyKey reports whether the request has a key that a handler can recognise a
// repetition by. Two keys, an empty one and a long one are refused here, before a
// service understands them in another way than this package.
func idempotencyKey(h http.Header) (bool, error) {
	keys := h[headerKey]
	switch {
	case len(keys) == 0:
		return false, nil
	case len(keys) > 1:
		return false, fmt.Errorf("%w: it has %d of them; send one", errKey, len(keys))
	case keys[0] == "":
		return false, fmt.Errorf("%w: it is empty; leave it out, or give each request its own", errKey)
	case len(keys[0]) > maxKey:
		return false, fmt.Errorf("%w: it has %d bytes; %d is the most", errKey, len(keys[0]), maxKey)
	}
	return true, nil
}

var errKey = errors.New("reach: the request's " + headerKey + " cannot be used")
