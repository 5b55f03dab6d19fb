package etcdtest

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
)

// A gate lets bytes pass, or holds them back. Nothing is lost while it is shut, as on
// a network that comes back before anybody has given a connection up.
type gate struct {
	mu   sync.Mutex
	turn sync.Cond
	shut bool
}

func newGate() *gate {
	g := &gate{}
	g.turn.L = &g.mu
	return g
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	g.turn.Broadcast()
}

// pass returns when the gate is open.
func (g *gate) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut {
		g.turn.Wait()
	}
}

// A proxy stands before a server. Whose connection it is decides which gate the bytes
// have to pass, in both directions.
type proxy struct {
	listener net.Listener
	gateOf   func(net.Conn) *gate // nil: nobody who may pass

	mu      sync.Mutex
	to      string // where the server is; "" while there is none
	servers map[net.Conn]bool
	clients map[net.Conn]bool
	closed  bool
	work    sync.WaitGroup
}

// startProxy starts a proxy, which ends with the test. With a tls.Config, the proxy
// and not the server is the connection's end.
func startProxy(t testing.TB, encrypted *tls.Config, gateOf func(net.Conn) *gate) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if encrypted != nil {
		l = tls.NewListener(l, encrypted)
	}
	p := &proxy{listener: l, gateOf: gateOf, servers: map[net.Conn]bool{}, clients: map[net.Conn]bool{}}
	p.work.Go(p.accept)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// aim says where the server is from now on. Connections to the one before end.
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
		return
	}
	defer p.forget(p.clients, client)
	g := p.gateOf(client)
	if g == nil {
		return
	}
	g.pass() // who connects while the gate is shut waits, too
	server := p.dial()
	if server == nil {
		return
	}
	defer p.forget(p.servers, server)
	var both sync.WaitGroup
	both.Go(func() { forward(server, client, g) })
	both.Go(func() { forward(client, server, g) })
	both.Wait()
}

// dial connects to the server, nil if there is none, or has ceased to be meanwhile.
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

// forward passes on what comes, and the end.
func forward(to, from net.Conn, g *gate) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		g.pass()
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			from.Close()
			to.Close()
			return
		}
	}
}

// keep remembers a client's connection, for as long as the proxy takes any.
func (p *proxy) keep(client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		client.Close()
		return false
	}
	p.clients[client] = true
	return true
}

func (p *proxy) forget(all map[net.Conn]bool, c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(all, c)
}

// close ends all connections. No gate may be shut any more.
func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop()
	p.work.Wait()
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
