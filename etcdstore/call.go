package etcdstore

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A patience is how long a request may take before it is sent again, beside the one
// before, on a route to a single endpoint. A member that is cut off may take a request and
// never answer, and the answer of one that is only far away is on its way. So none is
// given up: the first answer counts.
//
// All endpoints have been asked after three times as long, and the whole takes no longer
// than eight and three quarters of it. That is 35 hundredths of a TTL. An owner renews
// after a third, and stops after three quarters: it fits in between.
type patience time.Duration

// whole is how long the last answer may take.
func (p patience) whole() time.Duration { return time.Duration(p) * 35 / 4 }

// until returns how long after try n, from 1 on, the next one is due, of so many.
func (p patience) until(n, tries int) time.Duration {
	if n == 1 {
		return time.Duration(p)
	}
	return 2 * time.Duration(p) / time.Duration(tries-2)
}

// patienceFor is short enough for the TTL, but not so short that a busy machine would be
// taken for one that is cut off, nor so long that the wait for one that is cut off is too
// long.
func patienceFor(ttl time.Duration) patience {
	return patience(min(max(ttl/24, 80*time.Millisecond), time.Second))
}

// readPatience is for calls that do not know the TTL yet.
const readPatience = patience(250 * time.Millisecond)

// leastTries is how often a request is made where all tries fail at once.
const leastTries = 3

// An outcome is what has come of a request on one route.
type outcome[T any] struct {
	route  route
	answer T
	err    error
}

// call makes a request on one route after the other, until one brings an answer: first on
// the client's own, then to each endpoint, and soon where one has failed. It returns the
// first answer.
//
// The request has to be one that may be applied twice, at the same time, in any order, and
// when call has returned. So it must not depend on what its lease knows later: what it
// compares and puts is fixed before. A caller that counts from a moment before its call
// counts from before each of the requests.
func call[T any](ctx context.Context, s *store, p patience, request func(context.Context, route) (T, error)) (answer T, err error) {
	// Members that know no leader refuse at once, and say so.
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), p.whole())
	defer cancel()
	defer context.AfterFunc(s.client.Ctx(), cancel)() // a closed client would keep trying
	tries := max(leastTries, 1+len(s.client.Endpoints()))
	outcomes := make(chan outcome[T], tries)
	routes := []route{ownRoute(s.client)}
	missing := unanswered{within: p.whole()}
	asked, open := 0, 0
	ask := func() {
		if asked == 1 {
			routes = append(routes, singleRoutes(s.client)...)
		}
		r := routes[asked%len(routes)]
		asked++
		open++
		go func() {
			answer, err := request(ctx, r)
			if !errors.As(err, new(*streamError)) {
				err = rpctypes.Error(err) // the client's methods have done so, a bare request has not
			}
			outcomes <- outcome[T]{r, answer, err}
		}()
	}
	ask()
	next := time.NewTimer(p.until(1, tries))
	defer next.Stop()
	for {
		ended := ctx.Done()
		if open > 0 {
			ended = nil // each of them says what it knows
		}
		select {
		case o := <-outcomes:
			open--
			if o.err == nil || !isPassing(o.err) && ctx.Err() == nil {
				if o.err == nil && asked > 1 {
					o.route.answered()
				}
				return o.answer, o.err
			}
			missing.add(o.route.endpoint, o.err)
			next.Reset(time.Duration(p) / 8 << (asked - 1 - open))
		case <-next.C:
			if asked < tries && ctx.Err() == nil {
				ask()
				next.Reset(p.until(asked, tries))
			}
		case <-ended:
			return answer, missing.err()
		}
		if open == 0 && asked == tries {
			return answer, missing.err()
		}
	}
}

// sleep reports whether ctx has not ended by then.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
