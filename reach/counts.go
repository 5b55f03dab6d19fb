package reach

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ownerlease/owner/metrics"
)

// counts is what has become of a Client's requests.
type counts struct {
	mu       sync.Mutex
	outcomes [len(outcomeLabels)]uint64
	held     time.Duration
}

// The values of the label outcome.
const (
	countAnswered = iota
	countNoOwner
	countUnknown
	countFailed
)

var outcomeLabels = [...]string{"answered", "no_owner", "unknown", "failed"}

// count counts a request that has ended, and how long it was held before it was sent for
// the last time.
func (c *counts) count(err error, held time.Duration) {
	what := countFailed
	switch {
	case err == nil:
		what = countAnswered
	case errors.Is(err, ErrOutcomeUnknown):
		what = countUnknown
	case errors.Is(err, ErrNoOwner):
		what = countNoOwner
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[what]++
	c.held += held
}

// Collect implements metrics.Source: how many requests were answered, found no owner, had
// an unknown outcome, or failed otherwise, and for how long they waited for an owner. Its
// label lease is LeasePath, or the Store's name.
func (c *Client) Collect(add func(metrics.Sample)) {
	lease := c.LeasePath
	if named, ok := c.Store.(fmt.Stringer); ok {
		lease = named.String()
	}
	n := &c.counts
	n.mu.Lock()
	outcomes, held := n.outcomes, n.held
	n.mu.Unlock()
	var all uint64
	for i, label := range outcomeLabels {
		all += outcomes[i]
		add(metrics.Sample{
			Name: "reach_requests", Type: metrics.Counter, Help: "Requests to the owner, by what has become of them.",
			Labels: map[string]string{"lease": lease, "outcome": label}, Value: float64(outcomes[i]),
		})
	}
	add(metrics.Sample{
		Name: "reach_hold_seconds", Type: metrics.Summary, Help: "How long requests were held before they were sent for the last time.",
		Labels: map[string]string{"lease": lease}, Value: held.Seconds(), Count: all,
	})
}

// Collect implements metrics.Source, as [Client.Collect] does, for the requests to Handler.
func (n *Node) Collect(add func(metrics.Sample)) { n.reach().Collect(add) }
