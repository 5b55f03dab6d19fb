package etcdstore

import (
	"context"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// A route is one way to etcd. The client's own has its endpoints take turns, whichever of
// them answer; the others lead to a single endpoint each, over a connection of this
// package with the client's settings.
type route struct {
	endpoint string // "" for the client's own
	client   *clientv3.Client
	kv       etcdserverpb.KVClient
	leases   etcdserverpb.LeaseClient
}

func ownRoute(c *clientv3.Client) route {
	return route{client: c, kv: clientv3.RetryKVClient(c), leases: clientv3.RetryLeaseClient(c)}
}

// commit commits a transaction.
func (r route) commit(ctx context.Context, conditions []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	kv := &rawKV{KVClient: r.kv}
	resp, err := clientv3.NewKVFromKVClient(kv, r.client).Txn(ctx).If(conditions...).Then(then...).Else(otherwise...).Commit()
	if kv.err != nil {
		err = kv.err
	}
	return resp, err
}

// A rawKV keeps the error as gRPC returns it. It says why no connection can be used,
// where the client's methods return only that of the context.
type rawKV struct {
	etcdserverpb.KVClient
	err error
}

func (kv *rawKV) Txn(ctx context.Context, req *etcdserverpb.TxnRequest, opts ...grpc.CallOption) (*etcdserverpb.TxnResponse, error) {
	resp, err := kv.KVClient.Txn(ctx, req, opts...)
	kv.err = err
	return resp, err
}

// endpoints are a client's routes to single endpoints. There are none before an answer is
// late for the first time. A connection that is not used for long is closed by gRPC, and
// all are when the client is.
type endpoints struct {
	client *clientv3.Client

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn // by the endpoint
	last   string                      // the one that has answered last
	closed bool
}

// endpointsOf has those of the clients that are open, and have had late answers.
var endpointsOf = struct {
	sync.Mutex
	client map[*clientv3.Client]*endpoints
}{client: map[*clientv3.Client]*endpoints{}}

// singleRoutes returns a route to each of the client's endpoints. The one that has
// answered last comes first, as others may be out of reach.
func singleRoutes(c *clientv3.Client) []route {
	endpointsOf.Lock()
	e := endpointsOf.client[c]
	if e == nil {
		e = &endpoints{client: c, conns: map[string]*grpc.ClientConn{}}
		endpointsOf.client[c] = e
		context.AfterFunc(c.Ctx(), e.close)
	}
	endpointsOf.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []route
	for _, name := range c.Endpoints() {
		conn := e.connect(name)
		if conn == nil {
			continue
		}
		r := route{name, c, etcdserverpb.NewKVClient(conn), etcdserverpb.NewLeaseClient(conn)}
		if name == e.last {
			all = slices.Insert(all, 0, r)
		} else {
			all = append(all, r)
		}
	}
	return all
}

// connect returns the connection to an endpoint, which gRPC makes when it is used; nil
// where the endpoint is none that the client knows how to reach. mu is held.
func (e *endpoints) connect(name string) *grpc.ClientConn {
	if conn := e.conns[name]; conn != nil || e.closed {
		return conn
	}
	conn, err := e.client.Dial(name)
	if err != nil {
		return nil // the client's own route says what is wrong
	}
	e.conns[name] = conn
	return conn
}

// answered notes that this route has brought an answer where another had not.
func (r route) answered() {
	endpointsOf.Lock()
	e := endpointsOf.client[r.client]
	endpointsOf.Unlock()
	if e == nil || r.endpoint == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = r.endpoint
}

func (e *endpoints) close() {
	endpointsOf.Lock()
	delete(endpointsOf.client, e.client)
	endpointsOf.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, conn := range e.conns {
		_ = conn.Close()
	}
	clear(e.conns)
}
