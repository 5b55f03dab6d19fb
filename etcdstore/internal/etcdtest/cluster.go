package etcdtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A Cluster is three members. The traffic among them, and that of clients, goes through
// proxies that can hold it back.
type Cluster struct {
	Members []*Member
}

// A Member is one server. It has a certificate, so that the proxies before the others
// know who calls; the proxies are the connections' ends, and the servers need none.
type Member struct {
	Name string

	cluster *Cluster
	flags   []string
	cert    certificate
	peers   *proxy            // before it, for the other members
	from    map[string]*route // of peers, by the caller's name

	mu      sync.Mutex
	server  *process         // nil while it is stopped
	address string           // for clients; empty while it does not serve them
	admin   *clientv3.Client // straight to that
	clients []*proxy         // before it
}

// StartCluster starts a cluster that ends with the test, and waits until it serves. The
// flags are etcd's, for all members.
func StartCluster(t testing.TB, flags ...string) *Cluster {
	t.Helper()
	c := &Cluster{}
	for i := range 3 {
		c.Members = append(c.Members, &Member{Name: fmt.Sprintf("m%d", i), cluster: c, from: map[string]*route{}})
	}
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	var initial []string
	for _, m := range c.Members {
		m.listen(t, ca.certify(t, m.Name, filepath.Join(dir, m.Name)))
		initial = append(initial, m.Name+"=https://"+m.peers.addr())
	}
	t.Cleanup(c.close)
	for _, m := range c.Members {
		m.configure(filepath.Join(dir, m.Name), ca.file, strings.Join(initial, ","))
		m.flags = append(m.flags, flags...)
	}
	c.Start(t)
	c.Leader(t)
	return c
}

// listen starts the proxy before a member, and so gives it an address for life.
func (m *Member) listen(t testing.TB, cert certificate) {
	t.Helper()
	m.cert = cert
	for _, o := range m.cluster.Members {
		m.from[o.Name] = newRoute()
	}
	m.peers = startProxy(t, &tls.Config{Certificates: []tls.Certificate{cert.pair}, ClientAuth: tls.RequireAnyClientCert}, m.caller)
}

// caller returns the route of the member whose connection it is.
func (m *Member) caller(c net.Conn) *route {
	encrypted := c.(*tls.Conn)
	if encrypted.Handshake() != nil {
		return nil
	}
	return m.from[encrypted.ConnectionState().PeerCertificates[0].DNSNames[0]]
}

func (m *Member) configure(dir, ca, initial string) {
	const free = "http://" + anyPort
	m.flags = []string{
		"--name=" + m.Name, "--data-dir=" + dir, "--initial-cluster=" + initial,
		"--listen-client-urls=" + free, "--advertise-client-urls=" + free, "--listen-peer-urls=" + free,
		"--initial-advertise-peer-urls=https://" + m.peers.addr(),
		"--peer-cert-file=" + m.cert.cert, "--peer-key-file=" + m.cert.key, "--peer-trusted-ca-file=" + ca,
		"--unsafe-no-fsync", // a stopped member's files are in the kernel's hands
	}
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
	server, err := launch(m.flags...)
	var peers string
	if err == nil {
		peers, err = server.await(server.peers)
	}
	if err != nil {
		t.Errorf("start %s: %v", m.Name, err)
		return
	}
	m.server = server
	m.peers.aim(peers)
}

// ready waits until a member serves clients, for which it needs others.
func (m *Member) ready(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.server == nil:
		t.FailNow()
	case m.address != "":
		return
	}
	var err error
	if m.address, err = m.server.await(m.server.client); err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
	if m.admin, err = clientv3.New(clientv3.Config{Endpoints: []string{m.address}, Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.clients {
		p.aim(m.address)
	}
}

// Stop stops a member as kill does: without notice or handover, and its connections end.
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
	if m.admin != nil {
		_ = m.admin.Close()
	}
	m.server.kill()
	m.server, m.address, m.admin = nil, "", nil
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
		if st := m.status(); st != nil {
			votes[reign{st.Leader, st.RaftTerm}]++
			member[st.Header.MemberId] = m
		}
	}
	for r, n := range votes {
		if n > len(c.Members)/2 && member[r.leader] != nil {
			return member[r.leader]
		}
	}
	return nil
}

// status is a member's own status; nil while it is stopped.
func (m *Member) status() *clientv3.StatusResponse {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.admin == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	st, err := m.admin.Status(ctx, m.address)
	if err != nil {
		return nil
	}
	return st
}

// Follower waits for a leader, and returns another member.
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
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// Mend starts stopped members, and reconnects those that are cut off.
func (c *Cluster) Mend(t testing.TB) {
	t.Helper()
	for _, m := range c.Members {
		m.Rejoin()
	}
	c.Start(t)
	c.Leader(t)
}

// close lets everything pass, so that nothing waits for ever, and ends the members.
func (c *Cluster) close() {
	for _, m := range c.Members {
		m.Rejoin()
	}
	c.Stop()
	for _, m := range c.Members {
		m.peers.close()
	}
}

// A Client is a client with separate connections, which can be cut one by one.
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

// admit makes a proxy lead to the member, wherever that is.
func (m *Member) admit(p *proxy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients = append(m.clients, p)
	if m.address != "" {
		p.aim(m.address)
	}
}

// Cut holds back everything between the client and these members, or all, until
// Heal.
func (c *Client) Cut(members ...*Member) {
	c.each(members, func(l *link) { l.cut(true) })
}

// Lag makes requests, and answers, take this much longer each, until Heal: as over a long
// way. It holds for all that the client sends, connections that it makes included.
func (c *Client) Lag(by time.Duration) {
	c.each(nil, func(l *link) {
		l.there.set(false, by)
		l.back.set(false, by)
	})
}

// Heal ends Cut, Deafen, Delay and Lag.
func (c *Client) Heal(members ...*Member) {
	c.each(members, func(l *link) { l.cut(false) })
}

// Deafen holds the answers back, until Heal. Requests arrive.
func (c *Client) Deafen() {
	c.each(nil, func(l *link) { l.back.set(true, 0) })
}

// Delay makes answers take this much longer, until Heal.
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

// Break ends the client's connections. It may connect again, also through a link that is
// cut, but its data does not arrive before Heal.
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
