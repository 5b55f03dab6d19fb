package pgtest

import (
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// A Proxy is a network between a client and a server, which can be cut. Nothing is lost
// while it is, as on a network that comes back before any connection has timed out.
type Proxy struct {
	dir         string
	listener    net.Listener
	there, back *gate

	mu     sync.Mutex
	to     string // the server's socket
	conns  map[net.Conn]bool
	cut    map[net.Conn]bool
	lose   func(request []byte) bool // nil: no answers
	losing map[net.Conn]bool         // the clients whose next answer is lost
	healed sync.Cond
	closed bool
	work   sync.WaitGroup
}

// Proxy starts a proxy before the server, which ends with the test.
func (s *Server) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	dir, err := shortFolder(s.user)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("unix", SocketIn(dir))
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{dir: dir, listener: l, there: newGate(), back: newGate(), to: s.Socket(),
		conns: map[net.Conn]bool{}, cut: map[net.Conn]bool{}, losing: map[net.Conn]bool{}}
	p.healed.L = &p.mu
	p.work.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// DSN is the connection string of the superuser by way of the proxy.
func (p *Proxy) DSN() string { return DSN(p.dir) }

// Aim makes it lead to another server, as an address that moves. Connections to the one
// before end.
func (p *Proxy) Aim(s *Server) {
	p.mu.Lock()
	p.to = s.Socket()
	p.mu.Unlock()
	p.Break()
}

// Cut holds everything back, until Heal.
func (p *Proxy) Cut() {
	p.Mute()
	p.Deafen()
}

// Mute holds back what the client sends, until Heal.
func (p *Proxy) Mute() { p.there.set(true, 0) }

// Deafen holds the answers back, until Heal. Requests arrive.
func (p *Proxy) Deafen() { p.back.set(true, 0) }

// Delay makes answers take this much longer, until Heal.
func (p *Proxy) Delay(by time.Duration) { p.back.set(false, by) }

// CutThose holds everything back on the connections that there are, until Heal; new ones
// are not affected.
func (p *Proxy) CutThose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.cut[c] = true
	}
}

// LoseAnswers ends a connection when a request is answered for which lose is true, in place
// of the answer, until Heal. A statement outside of a transaction was committed then, as the
// server sends its answer after that. lose is asked of what the client has sent at once.
func (p *Proxy) LoseAnswers(lose func(request []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = lose
}

// asks takes a request.
func (p *Proxy) asks(client net.Conn, request []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lose != nil && p.lose(request) {
		p.losing[client] = true
	}
}

// loses reports whether the client's answer is to be lost.
func (p *Proxy) loses(client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.losing[client]
}

// Heal ends Cut, CutThose, Mute, Deafen, Delay and LoseAnswers.
func (p *Proxy) Heal() {
	p.there.set(false, 0)
	p.back.set(false, 0)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = nil
	clear(p.cut)
	clear(p.losing)
	p.healed.Broadcast()
}

// pass returns when what comes from this connection may pass.
func (p *Proxy) pass(g *gate, from net.Conn) {
	g.pass()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut[from] {
		p.healed.Wait()
	}
}

// Break ends the connections that there are. What is held back is lost.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Heal()
	p.Break()
	p.work.Wait()
	_ = os.RemoveAll(p.dir)
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.forget(client)
	if !p.keep(client) {
		return
	}
	p.there.pass() // a connection that is made while it is cut waits, too
	p.mu.Lock()
	to := p.to
	p.mu.Unlock()
	server, err := net.Dial("unix", to)
	if err != nil {
		return
	}
	defer p.forget(server)
	if !p.keep(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		p.forward(server, client, p.there, func(request []byte) bool { p.asks(client, request); return true })
	})
	both.Go(func() {
		p.forward(client, server, p.back, func([]byte) bool { return !p.loses(client) })
	})
	both.Wait()
}

func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return !p.closed
}

func (p *Proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	delete(p.cut, c)
	delete(p.losing, c)
	p.healed.Broadcast()
}

// forward passes on what comes, and the end, which is also where passes is false.
func (p *Proxy) forward(to, from net.Conn, g *gate, passes func([]byte) bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.pass(g, from)
		if err == nil && !passes(buf[:n]) {
			err = net.ErrClosed
		}
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			_ = from.Close()
			_ = to.Close()
			return
		}
	}
}

// A gate lets bytes pass, or holds them back.
type gate struct {
	mu    sync.Mutex
	open  sync.Cond
	shut  bool
	delay time.Duration
}

func newGate() *gate {
	g := &gate{}
	g.open.L = &g.mu
	return g
}

func (g *gate) set(shut bool, delay time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.delay = shut, delay
	g.open.Broadcast()
}

// pass returns when the gate is open, and not before its delay.
func (g *gate) pass() {
	g.mu.Lock()
	delay := g.delay
	g.mu.Unlock()
	time.Sleep(delay)
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut {
		g.open.Wait()
	}
}
