package ownergrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/ownerlease/owner"
)

// Scheme is the scheme of the targets that the resolvers of this package resolve.
const Scheme = "owner"

// Target returns the target of the lease file at path, for [grpc.NewClient] with
// [NewResolver]: owner:///path/to/lease. Characters that mean something in a URL are
// escaped. A relative path is resolved now.
func Target(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/…
		path = "/" + path
	}
	return (&url.URL{Scheme: Scheme, Path: path}).String()
}

// A ResolverOption changes what NewResolver and NewStoreResolver return.
type ResolverOption func(*builder)

// ServiceConfig adds the fields of a gRPC service config, a JSON object, to the one that
// the resolver gives the connection: method configs with timeouts, for example. The
// resolver's takes the place of that of [grpc.WithDefaultServiceConfig], which has no
// effect. The load balancing config is the resolver's own: one in js is refused, and so is
// what gRPC refuses, when the connection is first used.
//
// A retryPolicy in it repeats calls that may have run: give one to idempotent methods only.
func ServiceConfig(js string) ResolverOption {
	return func(b *builder) { b.config = js }
}

// NewResolver returns a resolver for [grpc.WithResolvers] that follows the owner of a lease
// file. Its targets are owner:///path/to/lease, see [Target]. It registers nothing.
//
// The connection has the address of the owner's endpoint, "unix:/path", "tcp:host:port" or
// "host:port", and changes it within milliseconds of a takeover. Calls in progress on the
// former owner's connection are left to end. While no process owns the lease, while the
// owner advertises no endpoint, and where the endpoint has another form, the connection has
// no address, and a call fails with [codes.Unavailable] and the reason, or waits if it has
// [grpc.WaitForReady]. While the lease cannot be read, the last address stays.
//
// A record whose epoch is below one that this resolver has seen for the lease, over all
// its connections, is ignored.
//
// The authority of calls is "localhost", not what the record says: a record must not choose
// the name that TLS verifies. Set it with [grpc.WithAuthority].
//
// It needs gRPC's service config, which names the owner in every call, and so it refuses a
// connection with [grpc.WithDisableServiceConfig]. Closing the connection waits until no
// goroutine of the resolver is left; a read of the lease that the operating system does not
// give back ends when it can.
//
// It promises neither that the process at the address is the owner (the server's
// interceptors check that) nor who listens there: transport credentials are the caller's.
func NewResolver(opts ...ResolverOption) resolver.Builder { return newBuilder(nil, opts) }

// NewStoreResolver is NewResolver for the lease that s keeps, in etcd or in memory. The path
// of the target does not matter: owner:/// is enough.
func NewStoreResolver(s owner.Store, opts ...ResolverOption) resolver.Builder {
	return newBuilder(s, opts)
}

func newBuilder(s owner.Store, opts []ResolverOption) *builder {
	b := &builder{store: s, latest: map[string]identity{}}
	for _, o := range opts {
		o(b)
	}
	return b
}

type builder struct {
	store  owner.Store // nil: the target names a file
	config string

	mu     sync.Mutex
	latest map[string]identity // by lease: the owner with the highest epoch
}

// Scheme implements [resolver.Builder].
func (b *builder) Scheme() string { return Scheme }

// OverrideAuthority implements [resolver.AuthorityOverrider].
func (b *builder) OverrideAuthority(resolver.Target) string { return "localhost" }

// Build implements [resolver.Builder].
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	if opts.DisableServiceConfig {
		return nil, errors.New("ownergrpc: the connection has WithDisableServiceConfig: its calls could not name the owner that they are meant for")
	}
	store, err := b.storeOf(target)
	if err != nil {
		return nil, fmt.Errorf("ownergrpc: target %q: %w", target.URL.String(), err)
	}
	config, err := b.serviceConfig(cc)
	if err != nil {
		return nil, fmt.Errorf("ownergrpc: service config: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &leaseResolver{builder: b, store: store, cc: cc, config: config, cancel: cancel, done: make(chan struct{})}
	go r.follow(ctx)
	return r, nil
}

func (b *builder) storeOf(target resolver.Target) (owner.Store, error) {
	if b.store != nil {
		return b.store, nil
	}
	if target.URL.Host != "" || target.URL.Opaque != "" {
		return nil, errors.New("it must have three slashes and an absolute path: owner:///path/to/lease")
	}
	path := filepath.FromSlash(target.URL.Path)
	if len(path) > 0 && filepath.VolumeName(path[1:]) != "" { // \C:\…
		path = path[1:]
	}
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path of the lease is not absolute: owner:///path/to/lease")
	}
	return owner.FileStore(path)
}

func (b *builder) serviceConfig(cc resolver.ClientConn) (*serviceconfig.ParseResult, error) {
	fields := map[string]json.RawMessage{}
	if b.config != "" {
		if err := json.Unmarshal([]byte(b.config), &fields); err != nil {
			return nil, err
		}
	}
	for _, own := range []string{"loadBalancingConfig", "loadBalancingPolicy"} {
		if _, ok := fields[own]; ok {
			return nil, fmt.Errorf("%s is the resolver's own", own)
		}
	}
	if fields == nil { // null
		fields = map[string]json.RawMessage{}
	}
	fields["loadBalancingConfig"] = json.RawMessage(`[{"` + balancerName + `":{}}]`)
	js, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	config := cc.ParseServiceConfig(string(js))
	return config, config.Err
}

// advance reports whether id is the latest owner of the lease that has been seen.
func (b *builder) advance(lease string, id identity) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	latest := b.latest[lease]
	if id.epoch < latest.epoch || id.epoch == latest.epoch && id != latest {
		return false
	}
	b.latest[lease] = id
	return true
}

// A leaseResolver follows one lease for one connection.
type leaseResolver struct {
	builder *builder
	store   owner.Store
	cc      resolver.ClientConn
	config  *serviceconfig.ParseResult
	cancel  context.CancelFunc
	done    chan struct{}

	shown identity // by follow alone: the owner that the connection leads to
}

// ResolveNow implements [resolver.Resolver]. There is nothing to hasten: the lease is
// followed all the time.
func (r *leaseResolver) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver].
func (r *leaseResolver) Close() {
	r.cancel()
	<-r.done
}

func (r *leaseResolver) follow(ctx context.Context) {
	defer close(r.done)
	for rec, err := range owner.WatchStore(ctx, r.store) {
		if err != nil {
			r.cc.ReportError(err)
			continue
		}
		r.show(&rec)
	}
}

// show has the connection lead to the owner of a record.
func (r *leaseResolver) show(rec *owner.Record) {
	id := identity{rec.InstanceID, rec.Epoch}
	switch {
	case id.instance == "":
		r.showNone(errors.New("it has no owner"))
		return
	case id.epoch == 0 && id.instance == r.shown.instance:
		return // its record is missing for a moment
	case id.epoch == 0:
		r.showNone(errors.New("its owner's record is missing"))
		return
	case !r.builder.advance(r.lease(), id):
		return // an owner of the past: tampered with, or an older file put in its place
	case rec.Meta[owner.EndpointMetaKey] == "":
		r.showNone(errors.New("its owner advertises no endpoint"))
		return
	}
	address, err := addressOf(rec.Meta[owner.EndpointMetaKey])
	if err != nil {
		r.showNone(err)
		return
	}
	r.shown = id
	r.update([]resolver.Endpoint{{Addresses: []resolver.Address{{Addr: address}}}}, attributes.New(identityKey{}, id))
}

// showNone leaves the connection without an address, and has calls say why.
func (r *leaseResolver) showNone(why error) {
	r.shown = identity{}
	r.update([]resolver.Endpoint{}, nil)
	r.cc.ReportError(fmt.Errorf("ownergrpc: %s: %w", r.lease(), why))
}

func (r *leaseResolver) update(endpoints []resolver.Endpoint, a *attributes.Attributes) {
	// The error says that there are no addresses, which is known, or that the connection
	// is closing.
	_ = r.cc.UpdateState(resolver.State{Endpoints: endpoints, ServiceConfig: r.config, Attributes: a})
}

// lease names the lease in errors, and in the builder's map.
func (r *leaseResolver) lease() string {
	if named, ok := r.store.(fmt.Stringer); ok {
		return named.String()
	}
	return "a lease"
}
