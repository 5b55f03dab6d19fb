package etcdtest

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// A gate lets bytes pass, or holds them back. Nothing is lost while it is shut, as on a
// network that comes back before any connection has timed out.
type gate struct {
	mu    sync.Mutex
	turn  sync.Cond
	shut  bool
	delay time.Duration
}

func newGate() *gate {
	g := &gate{}
	g.turn.L = &g.mu
	return g
}

func (g *gate) set(shut bool, delay time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.delay = shut, delay
	g.turn.Broadcast()
}

// pass returns when the gate is open, and not before its delay has passed since what is to
// pass has come.
func (g *gate) pass(came time.Time) {
	g.mu.Lock()
	delay := g.delay
	g.mu.Unlock()
	time.Sleep(time.Until(came.Add(delay)))
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut {
		g.turn.Wait()
	}
}

// A route is what a connection goes through: the requests, and the answers.
type route struct{ there, back *gate }

func newRoute() *route { return &route{newGate(), newGate()} }

func (r *route) cut(off bool) {
	r.there.set(off, 0)
	r.back.set(off, 0)
}

// A proxy is in front of a server. The client decides a connection's route.
type proxy struct {
	listener net.Listener
	routeOf  func(net.Conn) *route // nil: may not pass

	mu      sync.Mutex
	to      string // the server's address; "" while there is none
	servers map[net.Conn]bool
	clients map[net.Conn]bool
	closed  bool
	work    sync.WaitGroup
}

// startProxy starts a proxy. With a tls.Config, it and not the server is the
// connection's end.
func startProxy(t testing.TB, encrypted *tls.Config, routeOf func(net.Conn) *route) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if encrypted != nil {
		l = tls.NewListener(l, encrypted)
	}
	p := &proxy{listener: l, routeOf: routeOf, servers: map[net.Conn]bool{}, clients: map[net.Conn]bool{}}
	p.work.Go(p.accept)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// aim sets the server's address. Connections to the one before end.
func (p *proxy) aim(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
	for c := range p.servers {
		c.Close()
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	if !p.keep(client) {
		client.Close()
		return
	}
	defer p.forget(p.clients, client)
	r := p.routeOf(client)
	if r == nil {
		return
	}
	r.there.pass(time.Now()) // a connection that is made while it is shut waits, too
	server := p.dial()
	if server == nil {
		return
	}
	defer p.forget(p.servers, server)
	var both sync.WaitGroup
	both.Go(func() { forward(server, client, r.there) })
	both.Go(func() { forward(client, server, r.back) })
	both.Wait()
}

// keep remembers a client's connection, if there is a server to connect it to.
func (p *proxy) keep(client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.to == "" {
		return false
	}
	p.clients[client] = true
	return true
}

// dial connects to the server; it returns nil if there is none, or none any more.
func (p *proxy) dial() net.Conn {
	p.mu.Lock()
	to := p.to
	p.mu.Unlock()
	c, err := net.Dial("tcp", to)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.to != to {
		c.Close()
		return nil
	}
	p.servers[c] = true
	return c
}

// forward passes on what comes, and the end. What is delayed does not hold back what comes
// after it: a line that is long can have much on its way.
func forward(to, from net.Conn, g *gate) {
	under := make(chan packet, 1000) // way
	go receive(from, under)
	for p := range under {
		g.pass(p.came)
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	from.Close()
	to.Close()
	for range under { // the end comes now
	}
}

// A packet is what has been read at once, and when.
type packet struct {
	data []byte
	came time.Time
}

// receive reads until the end, which is an empty packet.
func receive(from net.Conn, under chan<- packet) {
	defer close(under)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		under <- packet{slices.Clone(buf[:n]), time.Now()}
		if err != nil {
			return
		}
	}
}

func (p *proxy) forget(all map[net.Conn]bool, c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(all, c)
}

// drop ends the connections that there are.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.clients {
		c.Close()
	}
	for c := range p.servers {
		c.Close()
	}
}

// close ends the proxy. No gate may be shut any more.
func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop()
	p.work.Wait()
}
