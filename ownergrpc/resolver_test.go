package ownergrpc

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// A connection follows the owner, by unix sockets and TCP, of a file and of a store.
func TestFollowsTakeover(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run("file/"+network, func(t *testing.T) {
			s, target := fileStore(t)
			followsTakeover(t, s, network, target, NewResolver())
		})
		t.Run("memory/"+network, func(t *testing.T) {
			s := ownertest.NewMemory()
			followsTakeover(t, s, network, "owner:///", NewStoreResolver(s))
		})
	}
}

func followsTakeover(t *testing.T, s owner.Store, network, target string, r resolver.Builder) {
	cc := dial(t, target, r, grpc.WithUnaryInterceptor(UnaryClientInterceptor(Retry{})))
	first := join(t, s, network)
	reached(t, cc, first)
	second := join(t, s, network)
	must(t, first.o.Release())
	second.elected(t)
	reached(t, cc, second)
	must(t, second.o.Advertise(t.Context(), second.endpoint, map[string]string{"ready": "yes"}))
	reached(t, cc, second)
}

// Another owner at the same address gets a new connection, whose calls name it.
func TestSameAddress(t *testing.T) {
	s := ownertest.NewMemory()
	first := join(t, s, "tcp")
	cc := dialStore(t, s, Retry{})
	reached(t, cc, first)
	must(t, first.o.Release())
	first.server.GracefulStop() // Stop could leave a call without an outcome
	address := strings.TrimPrefix(first.endpoint, "tcp:")
	l := listenAgain(t, address)
	reached(t, cc, serve(t, member(t, s, address), l, first.endpoint))
}

// Without an owner a call fails and says why, or waits.
func TestNoOwner(t *testing.T) {
	s := ownertest.NewMemory()
	cc := dial(t, "owner:///", NewStoreResolver(s))
	untilUnavailable(t, cc, "it has no owner")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := say(ctx, cc, "", grpc.WaitForReady(true)); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := say(t.Context(), cc, "", grpc.WaitForReady(true))
		waited <- err
	}()
	n := join(t, s, "unix")
	must(t, <-waited)
	must(t, n.o.Release())
	untilUnavailable(t, cc, "it has no owner")
}

// An owner that has no endpoint, or one that is refused, gets no calls; nor does the address
// from before.
func TestEndpointRefused(t *testing.T) {
	s := ownertest.NewMemory()
	n := join(t, s, "unix")
	cc := dial(t, "owner:///", NewStoreResolver(s))
	reached(t, cc, n)
	for endpoint, why := range map[string]string{
		"":                         "advertises no endpoint",
		"http://127.0.0.1:80":      "none of",
		"unix:relative":            "not absolute",
		"xds:///somewhere":         "the port",
		"unix-abstract:/elsewhere": "the port",
	} {
		must(t, n.o.Advertise(t.Context(), endpoint, nil))
		untilUnavailable(t, cc, why)
		must(t, n.o.Advertise(t.Context(), n.endpoint, nil))
		if _, err := say(t.Context(), cc, "", grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAddressOf(t *testing.T) {
	for endpoint, want := range map[string]string{
		"unix:/run/a.sock":    "unix:///run/a.sock",
		"unix:///run/a.sock":  "unix:///run/a.sock",
		"unix:/run/a b?#%41":  "unix:///run/a%20b%3F%23%2541",
		"tcp:127.0.0.1:80":    "127.0.0.1:80",
		"tcp:[::1]:65535":     "[::1]:65535",
		"localhost:1":         "localhost:1",
		"my-host.example:443": "my-host.example:443",

		"":                               "",
		"unix:":                          "",
		"unix:a.sock":                    "",
		"unix:@abstract":                 "",
		"unix:\x00abstract":              "",
		"unix:/run/\x00":                 "",
		"unix://run/a.sock":              "",
		"unix:80":                        "",
		"/run/a.sock":                    "",
		"tcp:":                           "",
		"tcp:/run/a:80":                  "",
		"tcp:tcp:host:80":                "",
		"tcp:host":                       "",
		"tcp:host:0":                     "",
		"tcp:host:65536":                 "",
		"tcp:host:-1":                    "",
		"tcp:host:http":                  "",
		"tcp::80":                        "",
		":80":                            "",
		"user@host:80":                   "",
		"host/path:80":                   "",
		"dns:///host:80":                 "",
		"https://host:80":                "",
		"passthrough:///host:80":         "",
		"owner:///run/lease:80":          "",
		"vsock:3:80":                     "",
		"host:80\r\n":                    "",
		"ho\nst:80":                      "",
		strings.Repeat("h", 300) + ":80": "",
	} {
		got, err := addressOf(endpoint)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", endpoint, got, err, want)
		}
	}
}

// A scripted store shows what the test says.
type scripted struct {
	*ownertest.Memory
	mu    sync.Mutex
	rec   owner.Record
	err   error
	hint  func()
	looks int // at what is there now
}

func (s *scripted) Look(context.Context) (owner.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return owner.View{Holder: s.rec}, s.err
}

func (s *scripted) Watch(_ owner.Record, hint func()) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hint = hint
	return func() {}, nil
}

func (s *scripted) set(rec owner.Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec, s.err, s.looks = rec, err, 0
	if s.hint != nil {
		s.hint()
	}
}

// seen waits until a resolver has read what was set so many times.
func (s *scripted) seen(t *testing.T, times int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		looks := s.looks
		s.mu.Unlock()
		if looks >= times {
			return
		}
	}
	t.Fatal("the lease is not read")
}

// A recorder is a connection that records what the resolver says.
type recorder struct {
	resolver.ClientConn
	states chan resolver.State
	errs   chan error
}

func newRecorder() *recorder {
	return &recorder{states: make(chan resolver.State, 100), errs: make(chan error, 100)}
}

func (c *recorder) UpdateState(s resolver.State) error { c.states <- s; return nil }
func (c *recorder) ReportError(err error)              { c.errs <- err }
func (c *recorder) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{}
}

// next returns the address of the next state, "" for none.
func (c *recorder) next(t *testing.T) (string, identity) {
	t.Helper()
	select {
	case s := <-c.states:
		if len(s.Endpoints) == 0 {
			return "", identity{}
		}
		return s.Endpoints[0].Addresses[0].Addr, identityAt(s.Attributes)
	case <-time.After(20 * time.Second):
		t.Fatal("no state")
		panic("")
	}
}

func record(n byte, epoch uint64) owner.Record {
	id := "00000000-0000-4000-8000-00000000000" + string('0'+rune(n))
	return owner.Record{InstanceID: id, Epoch: epoch, Meta: map[string]string{owner.EndpointMetaKey: "host:" + string('0'+rune(n))}}
}

// A record of the past is ignored, by all connections of a resolver; a record that is
// missing for a moment changes nothing, nor does a lease that cannot be read.
func TestOldRecordIgnored(t *testing.T) {
	s := &scripted{Memory: ownertest.NewMemory(), rec: record(5, 5)}
	b := NewStoreResolver(s)
	cc := newRecorder()
	r, err := b.Build(resolver.Target{}, cc, resolver.BuildOptions{})
	must(t, err)
	expect := func(cc *recorder, want string, id identity) {
		t.Helper()
		if got, gotID := cc.next(t); got != want || gotID != id {
			t.Fatalf("%q, %v; want %q, %v", got, gotID, want, id)
		}
	}
	of := func(n byte, epoch uint64) identity { return identity{record(n, epoch).InstanceID, epoch} }
	expect(cc, "host:5", of(5, 5))
	s.set(owner.Record{}, errors.New("not now"))
	<-cc.errs
	s.set(owner.Record{InstanceID: record(5, 5).InstanceID}, nil)
	s.seen(t, 1)
	s.set(record(5, 5), nil)
	expect(cc, "host:5", of(5, 5))
	s.set(record(4, 4), nil) // Watch yields first that there is none
	expect(cc, "", identity{})
	<-cc.errs
	s.set(owner.Record{InstanceID: record(6, 6).InstanceID}, nil)
	expect(cc, "", identity{})
	if err := <-cc.errs; !strings.Contains(err.Error(), "no owner") && !strings.Contains(err.Error(), "missing") {
		t.Fatal(err)
	}

	r.Close()
	again := newRecorder()
	s.set(record(4, 4), nil)
	r2, err := b.Build(resolver.Target{}, again, resolver.BuildOptions{})
	must(t, err)
	defer r2.Close()
	s.seen(t, 1) // and the connection is told nothing
	s.set(record(7, 7), nil)
	expect(again, "", identity{})
	expect(again, "host:7", of(7, 7))
	s.set(record(3, 7), nil) // another instance with the same epoch
	expect(again, "", identity{})
	s.seen(t, 4) // in the second of Watch's reads, each of which may read twice
	s.set(record(8, 8), nil)
	for got := ""; got != "host:8"; {
		if got, _ = again.next(t); got == "host:3" {
			t.Fatal("an instance with the epoch of another was followed")
		}
	}
}

// Close leaves no goroutine, whatever the store does.
func TestCloseLeavesNothing(t *testing.T) {
	for name, hinder := range map[string]func(*ownertest.Memory){
		"idle":  func(*ownertest.Memory) {},
		"hangs": func(m *ownertest.Memory) { m.Hang() },
		"fails": func(m *ownertest.Memory) { m.Fail(errors.New("no")) },
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			s := ownertest.NewMemory()
			hinder(s)
			cc := newRecorder()
			for range 20 {
				r, err := NewStoreResolver(s).Build(resolver.Target{}, cc, resolver.BuildOptions{})
				must(t, err)
				r.ResolveNow(resolver.ResolveNowOptions{})
				runtime.Gosched()
				r.Close()
			}
		})
	}
}

// A busy connection is slow to take a state.
type busy struct {
	*recorder
	entered chan struct{}
	taken   atomic.Bool
}

func (c *busy) UpdateState(resolver.State) error {
	close(c.entered)
	time.Sleep(20 * time.Millisecond)
	c.taken.Store(true)
	return nil
}

// Close waits until the connection has been told the last.
func TestCloseWaits(t *testing.T) {
	s := &scripted{Memory: ownertest.NewMemory(), rec: record(1, 1)}
	cc := &busy{recorder: newRecorder(), entered: make(chan struct{})}
	r, err := NewStoreResolver(s).Build(resolver.Target{}, cc, resolver.BuildOptions{})
	must(t, err)
	within(t, "a state", cc.entered)
	r.Close()
	if !cc.taken.Load() {
		t.Error("Close has not waited")
	}
}

// Connections that were used leave nothing, either.
func TestConnectionLeavesNothing(t *testing.T) {
	s, target := fileStore(t)
	n := join(t, s, "unix")
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cc := dial(t, target, NewResolver(), grpc.WithUnaryInterceptor(UnaryClientInterceptor(Retry{})))
	reached(t, cc, n)
	must(t, cc.Close())
	n.server.Stop()
}

func TestTargets(t *testing.T) {
	for _, target := range []string{"owner:lease", "owner://host/lease", "owner:///"} {
		cc := dial(t, target, NewResolver())
		if _, err := say(t.Context(), cc, ""); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", target, err)
		}
	}
	if got := Target("/run/a b?#%"); got != "owner:///run/a%20b%3F%23%25" {
		t.Error(got)
	}
	if got := Target("x"); !strings.HasPrefix(got, "owner:///") || !strings.HasSuffix(got, "/x") {
		t.Error(got)
	}
}

// The caller's service config is kept; what would remove the balancer is refused.
func TestServiceConfig(t *testing.T) {
	s := ownertest.NewMemory()
	n := join(t, s, "unix")
	n.say = func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	cc := dial(t, "owner:///", NewStoreResolver(s, ServiceConfig(`{"methodConfig":[{"name":[{}],"timeout":"0.05s"}]}`)))
	if _, err := say(t.Context(), cc, ""); status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	if _, given, _ := identityOf(n.last()); !given {
		t.Error("the call does not name the owner")
	}
	for config, why := range map[string]string{
		`{`:                  "unexpected end",
		`[]`:                 "cannot unmarshal",
		`{"methodConfig":1}`: "cannot unmarshal",
		`{"loadBalancingConfig":[{"round_robin":{}}]}`: "the resolver's own",
		`{"loadBalancingPolicy":"round_robin"}`:        "the resolver's own",
	} {
		cc := dial(t, "owner:///", NewStoreResolver(s, ServiceConfig(config)))
		if _, err := say(t.Context(), cc, ""); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", config, err)
		}
	}
	cc = dial(t, "owner:///", NewStoreResolver(s), grpc.WithDisableServiceConfig())
	if _, err := say(t.Context(), cc, ""); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "WithDisableServiceConfig") {
		t.Error(err)
	}
}
