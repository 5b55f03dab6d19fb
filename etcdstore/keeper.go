package etcdstore

import (
	"context"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A keeper keeps etcd leases alive, all of a client's over one stream for each route: the
// client's own, and others once an answer was late. The client's own KeepAliveOnce opens a
// stream each time, for which a client with a password authenticates again: some 60 ms of
// the server's time. Its KeepAlive shares one, but does not show which request an answer is
// to, and so not what the TTL counts from.
type keeper struct {
	client *clientv3.Client
	leases int // how many there are to keep; keepers' mutex guards it

	mu      sync.Mutex
	streams map[string]*stream // the last one that was begun, by the route's endpoint
}

// keepers are those of the clients that have leases to keep.
var keepers = struct {
	sync.Mutex
	of map[*clientv3.Client]*keeper
}{of: map[*clientv3.Client]*keeper{}}

// keeperOf returns the client's keeper, for one more lease.
func keeperOf(c *clientv3.Client) *keeper {
	keepers.Lock()
	defer keepers.Unlock()
	k := keepers.of[c]
	if k == nil {
		k = &keeper{client: c, streams: map[string]*stream{}}
		keepers.of[c] = k
	}
	k.leases++
	return k
}

// leave is for a lease that is kept no longer. The last one ends the stream.
func (k *keeper) leave() {
	keepers.Lock()
	defer keepers.Unlock()
	if k.leases--; k.leases > 0 {
		return
	}
	delete(keepers.of, k.client)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, st := range k.streams {
		st.end(nil)
	}
}

// keepAlive makes an etcd lease last for another TTL from some moment after this call,
// and returns the term of the answer.
func (k *keeper) keepAlive(ctx context.Context, s *store, p patience, id clientv3.LeaseID) (term uint64, err error) {
	var mu sync.Mutex
	var all []*request // in the order in which they were asked
	answered, err := call(ctx, s, p, func(ctx context.Context, r route) (*request, error) {
		mu.Lock()
		asked, err := k.ask(ctx, r, id)
		if err == nil {
			all = append(all, asked)
		}
		mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case err := <-asked.answer:
			if err != nil && !isNotFound(err) {
				err = &streamError{err} // the next one may have a new token, for example
			}
			return asked, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	mu.Lock()
	defer mu.Unlock()
	if err == nil {
		dropSilent(all, answered)
		return answered.term, nil
	}
	if ctx.Err() == nil {
		dropSilent(all, nil)
	}
	return 0, err
}

// A streamError is that of a stream which has ended, and so of all requests that waited.
type streamError struct{ error }

func (e *streamError) Unwrap() error { return e.error }

// dropSilent ends the streams that were asked before the one that has answered, and have
// brought nothing since; all of those where none has. The next on the client's own route
// goes to its next endpoint.
func dropSilent(all []*request, answered *request) {
	for _, r := range all {
		if r == answered {
			return
		}
		if r.silent() {
			r.stream.end(errSilent) // for all that wait there
		}
	}
}

// A request is one keep-alive that was asked for.
type request struct {
	id     clientv3.LeaseID
	stream *stream
	heard  int        // how many answers the stream had brought before
	answer chan error // has room for it
	term   uint64     // in which it was answered, once it was
}

// ask asks on the route's present stream, or on a new one. It does not wait. After ctx's
// end it begins none: the keeper may have been left.
func (k *keeper) ask(ctx context.Context, to route, id clientv3.LeaseID) (*request, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if st := k.streams[to.endpoint]; st != nil {
		if r := st.ask(id); r != nil {
			return r, nil
		}
	}
	st := newStream(to)
	k.streams[to.endpoint] = st
	if r := st.ask(id); r != nil {
		return r, nil
	}
	return nil, context.Canceled // the client is closed
}

// A stream is one etcd stream of keep-alives. The server takes one request after the
// other, so that those for one etcd lease are answered in their order.
type stream struct {
	ctx  context.Context
	end  context.CancelCauseFunc
	more chan struct{} // there is something to be sent

	mu     sync.Mutex
	unsent []*request
	sent   map[clientv3.LeaseID][]*request // and not answered
	heard  int                             // how many answers there were
	over   bool                            // no answer will come any more
}

func newStream(to route) *stream {
	st := &stream{more: make(chan struct{}, 1), sent: map[clientv3.LeaseID][]*request{}}
	st.ctx, st.end = context.WithCancelCause(clientv3.WithRequireLeader(to.client.Ctx()))
	go st.run(to.leases)
	return st
}

// ask returns nil if the stream has ended.
func (st *stream) ask(id clientv3.LeaseID) *request {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over || st.ctx.Err() != nil {
		return nil
	}
	r := &request{id: id, stream: st, heard: st.heard, answer: make(chan error, 1)}
	st.unsent = append(st.unsent, r)
	select {
	case st.more <- struct{}{}:
	default:
	}
	return r
}

// silent reports whether no answer to any request has come since this one.
func (r *request) silent() bool {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	return r.stream.heard == r.heard
}

// run opens the stream and receives, until it ends: then all waiting requests get the reason.
func (st *stream) run(leases etcdserverpb.LeaseClient) {
	keepalives, err := leases.LeaseKeepAlive(st.ctx)
	if err == nil {
		go st.send(keepalives)
		for {
			var resp *etcdserverpb.LeaseKeepAliveResponse
			if resp, err = keepalives.Recv(); err != nil {
				break
			}
			st.answered(resp)
		}
	}
	st.end(rpctypes.Error(err))
	st.mu.Lock()
	defer st.mu.Unlock()
	st.over = true
	for _, waiting := range st.sent {
		st.unsent = append(st.unsent, waiting...)
	}
	for _, r := range st.unsent {
		r.answer <- context.Cause(st.ctx)
	}
}

// send sends the requests, until the stream ends.
func (st *stream) send(keepalives etcdserverpb.Lease_LeaseKeepAliveClient) {
	for {
		select {
		case <-st.more:
		case <-st.ctx.Done():
			return
		}
		for _, r := range st.take() {
			// Where this fails, receiving does, with the reason.
			_ = keepalives.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(r.id)})
		}
	}
}

// take returns the next request to be sent.
func (st *stream) take() []*request {
	st.mu.Lock()
	defer st.mu.Unlock()
	all := st.unsent
	st.unsent = nil
	for _, r := range all {
		st.sent[r.id] = append(st.sent[r.id], r)
	}
	return all
}

// answered gives an answer to the request that has waited longest for one for this lease.
func (st *stream) answered(resp *etcdserverpb.LeaseKeepAliveResponse) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.heard++
	id := clientv3.LeaseID(resp.ID)
	waiting := st.sent[id]
	if len(waiting) == 0 {
		return // no request asked for it
	}
	if st.sent[id] = waiting[1:]; len(waiting) == 1 {
		delete(st.sent, id)
	}
	var err error
	if resp.TTL <= 0 {
		err = rpctypes.ErrLeaseNotFound
	}
	waiting[0].term = resp.GetHeader().GetRaftTerm()
	waiting[0].answer <- err
}
