package ownergrpc

import (
	"sync"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
)

// balancerName is that of gRPC's pick_first with one addition: each call gets the metadata
// of the owner whose connection it was given. gRPC chooses the connection last, after the
// interceptors, so nothing before it can know which owner that is.
const balancerName = "owner_pick_first"

// gRPC knows balancers by a process-wide name only.
func init() { balancer.Register(balancerBuilder{}) }

type balancerBuilder struct{}

func (balancerBuilder) Name() string { return balancerName }

func (balancerBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	owners := new(sync.Map)
	child := balancer.Get(pickfirst.Name).Build(&ownedConn{cc, owners}, opts)
	return &ownedBalancer{child}
}

// identityKey is where a resolver's state, and then each address, has the identity.
type identityKey struct{}

func identityAt(a *attributes.Attributes) identity {
	id, _ := a.Value(identityKey{}).(identity)
	return id
}

type ownedBalancer struct{ balancer.Balancer }

// UpdateClientConnState marks the addresses with the owner, so that another owner at the
// same address gets a new connection. The state has the mark, and not the resolver's
// addresses, as gRPC makes new ones where it dials through a proxy.
func (b *ownedBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	id := identityAt(s.ResolverState.Attributes)
	s.BalancerConfig = nil // of this balancer, not of pick_first
	s.ResolverState.Addresses = marked(s.ResolverState.Addresses, id)
	var endpoints []resolver.Endpoint
	for _, e := range s.ResolverState.Endpoints {
		e.Addresses = marked(e.Addresses, id)
		endpoints = append(endpoints, e)
	}
	s.ResolverState.Endpoints = endpoints
	return b.Balancer.UpdateClientConnState(s)
}

func marked(addresses []resolver.Address, id identity) (all []resolver.Address) {
	for _, a := range addresses {
		a.Attributes = a.Attributes.WithValue(identityKey{}, id)
		all = append(all, a)
	}
	return all
}

// ownedConn remembers which owner each connection leads to.
type ownedConn struct {
	balancer.ClientConn
	owners *sync.Map // of balancer.SubConn: metadata.MD
}

func (c *ownedConn) NewSubConn(addresses []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	var sc balancer.SubConn
	listener := opts.StateListener
	opts.StateListener = func(s balancer.SubConnState) {
		if s.ConnectivityState == connectivity.Shutdown {
			c.owners.Delete(sc)
		}
		listener(s)
	}
	//lint:ignore SA1019 gRPC has no other method for it yet
	sc, err := c.ClientConn.NewSubConn(addresses, opts) // connects later
	if err == nil && len(addresses) > 0 {
		c.owners.Store(sc, identityAt(addresses[0].Attributes).metadata())
	}
	return sc, err
}

func (c *ownedConn) UpdateState(s balancer.State) {
	if s.Picker != nil {
		s.Picker = picker{s.Picker, c.owners}
	}
	c.ClientConn.UpdateState(s)
}

type picker struct {
	balancer.Picker
	owners *sync.Map
}

func (p picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := p.Picker.Pick(info)
	if err != nil {
		return result, err
	}
	md, ok := p.owners.Load(result.SubConn)
	if !ok { // shut down just now: another picker is on its way
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	result.Metadata = md.(metadata.MD)
	if a := attemptOf(info.Ctx); a != nil {
		return a.begin(result)
	}
	return result, nil
}
