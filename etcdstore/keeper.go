package etcdstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A keeper keeps etcd leases alive, all of a client's over one stream. The client's own
// KeepAliveOnce opens a stream each time, for which a client with a password
// authenticates again: some 60 ms of the server's time. Its KeepAlive shares one, but
// does not show which request an answer is to, and so not what the TTL counts from.
type keeper struct {
	client *clientv3.Client
	leases int // how many there are to keep; keepers' mutex guards it

	mu     sync.Mutex
	stream *stream // the last one that was begun, nil before the first
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
		k = &keeper{client: c}
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
	if k.stream != nil {
		k.stream.end(nil)
	}
}

// keepAlive makes an etcd lease last for another TTL from some moment after this call,
// and returns the term of the answer. It keeps waiting on a stream that brings answers,
// even to other requests. Where none come, or the stream has ended, it asks again on
// another stream, which goes to the next endpoint.
func (k *keeper) keepAlive(ctx context.Context, p requestTimeout, id clientv3.LeaseID) (term uint64, err error) {
	var asked *request
	for n := 0; ; n++ {
		if asked == nil {
			asked = k.ask(id)
		}
		if asked == nil {
			return 0, context.Cause(k.client.Ctx())
		}
		timer := time.NewTimer(time.Duration(p) << n)
		select {
		case err := <-asked.answer:
			timer.Stop()
			if err == nil || isNotFound(err) || n == tries-1 || !sleep(ctx, time.Duration(p)/8<<n) {
				return asked.term, err
			}
			asked = nil
		case <-ctx.Done():
			timer.Stop()
			return 0, ctx.Err()
		case <-timer.C:
			if n == tries-1 {
				return 0, fmt.Errorf("%w within %v", errSlow, time.Duration(p)<<n)
			}
			if asked.silent() {
				asked.stream.end(errSlow) // for all that wait there
				asked = nil
			}
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

// ask asks on the present stream, or on a new one. It does not wait. It returns nil if
// the client is closed.
func (k *keeper) ask(id clientv3.LeaseID) *request {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stream != nil {
		if r := k.stream.ask(id); r != nil {
			return r
		}
	}
	k.stream = newStream(k.client)
	return k.stream.ask(id)
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

func newStream(c *clientv3.Client) *stream {
	st := &stream{more: make(chan struct{}, 1), sent: map[clientv3.LeaseID][]*request{}}
	st.ctx, st.end = context.WithCancelCause(clientv3.WithRequireLeader(c.Ctx()))
	go st.run(clientv3.RetryLeaseClient(c))
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
