package etcdtest

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// A Cluster is three members. What they tell each other, and what clients tell them,
// goes through proxies that can hold it back.
type Cluster struct {
	Members []*Member
}

// A Member is one server. It has a certificate, so that the proxies before the others
// know who calls; the proxies are the connections' ends, and the servers need none.
type Member struct {
	Name string

	cluster *Cluster
	cfg     embed.Config
	cert    transport.TLSInfo
	peers   *proxy            // before it, for the other members
	from    map[string]*route // of peers, by the caller's name

	mu      sync.Mutex
	server  *embed.Etcd // nil while it is stopped
	clients []*proxy    // before it
}

// StartCluster starts a cluster that ends with the test, and waits until it serves.
// change can change a member's configuration.
func StartCluster(t testing.TB, change ...func(*embed.Config)) *Cluster {
	t.Helper()
	c := &Cluster{}
	for i := range 3 {
		c.Members = append(c.Members, &Member{Name: fmt.Sprintf("m%d", i), cluster: c, from: map[string]*route{}})
	}
	dir := t.TempDir()
	var initial []string
	for _, m := range c.Members {
		m.listen(t, filepath.Join(dir, m.Name))
		initial = append(initial, m.Name+"=https://"+m.peers.addr())
	}
	t.Cleanup(c.close)
	for _, m := range c.Members {
		m.configure(filepath.Join(dir, m.Name), strings.Join(initial, ","))
		for _, f := range change {
			f(&m.cfg)
		}
	}
	c.Start(t)
	c.Leader(t)
	return c
}

// listen starts the proxy before a member, and so gives it an address for life.
func (m *Member) listen(t testing.TB, dir string) {
	t.Helper()
	own, info := certify(t, m.Name, dir)
	m.cert = info
	for _, o := range m.cluster.Members {
		m.from[o.Name] = newRoute()
	}
	m.peers = startProxy(t, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert}, m.caller)
}

// caller returns the route of the member whose connection it is.
func (m *Member) caller(c net.Conn) *route {
	encrypted := c.(*tls.Conn)
	if encrypted.Handshake() != nil {
		return nil
	}
	return m.from[encrypted.ConnectionState().PeerCertificates[0].DNSNames[0]]
}

func (m *Member) configure(dir, initial string) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = m.Name, dir
	cfg.InitialCluster = initial
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls, cfg.ListenPeerUrls = free, free, free
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "https", Host: m.peers.addr()}}
	cfg.PeerTLSInfo = m.cert
	cfg.UnsafeNoFsync = true // a stopped member's files are in the kernel's hands
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	m.cfg = *cfg
}

// Start starts all members that are stopped, and waits until they serve.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	each(c.Members, func(m *Member) { m.start(t) })
	for _, m := range c.Members {
		m.ready(t)
	}
}

// Stop stops all members at once, as a power failure does.
func (c *Cluster) Stop() { each(c.Members, (*Member).Stop) }

func each(all []*Member, do func(*Member)) {
	var done sync.WaitGroup
	for _, m := range all {
		done.Go(func() { do(m) })
	}
	done.Wait()
}

// Start starts a member that was stopped, with the data that it had, and waits until
// it serves.
func (m *Member) Start(t testing.TB) {
	t.Helper()
	m.start(t)
	m.ready(t)
}

func (m *Member) start(t testing.TB) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.server != nil {
		return
	}
	cfg := m.cfg
	server, err := embed.StartEtcd(&cfg)
	if err != nil {
		t.Errorf("start %s: %v", m.Name, err)
		return
	}
	m.server = server
	m.peers.aim(server.Peers[0].Addr().String())
	for _, p := range m.clients {
		p.aim(m.address())
	}
}

func (m *Member) address() string { return m.server.Clients[0].Addr().String() }

func (m *Member) ready(t testing.TB) {
	t.Helper()
	server := m.running()
	if server == nil {
		t.FailNow()
	}
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		t.Fatalf("%s: %v", m.Name, err)
	case <-time.After(limit):
		t.Fatalf("%s is not ready after %v", m.Name, limit)
	}
}

func (m *Member) running() *embed.Etcd {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.server
}

// Stop stops a member as kill does: it tells nobody, hands nothing over, and its
// connections end.
func (m *Member) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.server == nil {
		return
	}
	m.peers.aim("")
	for _, p := range m.clients {
		p.aim("")
	}
	m.server.Server.HardStop()
	m.server.Close()
	m.server = nil
}

// Isolate cuts a member off from the others, until Rejoin.
func (m *Member) Isolate() { m.cut(true) }

// Rejoin ends Isolate.
func (m *Member) Rejoin() { m.cut(false) }

func (m *Member) cut(off bool) {
	for _, o := range m.cluster.Members {
		m.from[o.Name].cut(off)
		o.from[m.Name].cut(off)
	}
}

// Leader waits until a majority knows the same leader, and returns it.
func (c *Cluster) Leader(t testing.TB) *Member {
	t.Helper()
	var leader *Member
	Await(t, "a leader", func() bool {
		leader = c.leader()
		return leader != nil
	})
	return leader
}

func (c *Cluster) leader() *Member {
	type reign struct{ leader, term uint64 }
	votes := map[reign]int{}
	member := map[uint64]*Member{}
	for _, m := range c.Members {
		if server := m.running(); server != nil {
			votes[reign{uint64(server.Server.Leader()), server.Server.Term()}]++
			member[uint64(server.Server.MemberID())] = m
		}
	}
	for r, n := range votes {
		if n > len(c.Members)/2 && member[r.leader] != nil {
			return member[r.leader]
		}
	}
	return nil
}

// Follower waits for a leader, and returns a member that is none.
func (c *Cluster) Follower(t testing.TB) *Member {
	t.Helper()
	return c.Others(c.Leader(t))[0]
}

// Others returns the members but one.
func (c *Cluster) Others(but *Member) []*Member {
	return slices.DeleteFunc(slices.Clone(c.Members), func(m *Member) bool { return m == but })
}

// Await waits until something is so.
func Await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Mend starts what is stopped, and joins what is cut off.
func (c *Cluster) Mend(t testing.TB) {
	t.Helper()
	for _, m := range c.Members {
		m.Rejoin()
	}
	c.Start(t)
	c.Leader(t)
}

// close lets everything pass, so that nothing waits for ever, and ends it.
func (c *Cluster) close() {
	for _, m := range c.Members {
		m.Rejoin()
	}
	c.Stop()
	for _, m := range c.Members {
		m.peers.close()
	}
}

// A Client is a client with connections of its own, which can be cut one by one.
type Client struct {
	*clientv3.Client
	links map[*Member]*link
}

type link struct {
	*proxy
	*route
}

// NewClient connects a client to these members, or to all. It ends with the test.
func (c *Cluster) NewClient(t testing.TB, members ...*Member) *Client {
	t.Helper()
	if len(members) == 0 {
		members = c.Members
	}
	client := &Client{links: map[*Member]*link{}}
	var endpoints []string
	for _, m := range members {
		l := &link{route: newRoute()}
		l.proxy = startProxy(t, nil, func(net.Conn) *route { return l.route })
		m.admit(l.proxy)
		client.links[m] = l
		endpoints = append(endpoints, l.addr())
	}
	var err error
	client.Client, err = clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	t.Cleanup(client.close)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// admit has a proxy lead to the member, wherever that is.
func (m *Member) admit(p *proxy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients = append(m.clients, p)
	if m.server != nil {
		p.aim(m.address())
	}
}

// Cut holds back everything between the client and these members, or all, until
// Heal.
func (c *Client) Cut(members ...*Member) {
	c.each(members, func(l *link) { l.cut(true) })
}

// Heal ends Cut, Deafen and Delay.
func (c *Client) Heal(members ...*Member) {
	c.each(members, func(l *link) { l.cut(false) })
}

// Deafen holds the answers back, until Heal. Requests arrive.
func (c *Client) Deafen() {
	c.each(nil, func(l *link) { l.back.set(true, 0) })
}

// Delay has answers take so much longer, until Heal.
func (c *Client) Delay(by time.Duration) {
	c.each(nil, func(l *link) { l.back.set(false, by) })
}

func (c *Client) each(members []*Member, do func(*link)) {
	for m, l := range c.links {
		if len(members) == 0 || slices.Contains(members, m) {
			do(l)
		}
	}
}

// Break ends the client's connections. It may connect again, also through a link
// that is cut, but is not heard before Heal.
func (c *Client) Break() {
	for _, l := range c.links {
		l.drop()
	}
}

func (c *Client) close() {
	c.Heal()
	if c.Client != nil {
		c.Client.Close()
	}
	for _, l := range c.links {
		l.close()
	}
}
