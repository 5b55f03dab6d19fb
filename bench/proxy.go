package main

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// A proxy is between a client and its server. While it hangs, connections
// stay open and nothing passes, in either direction.
type proxy struct {
	gate   gate
	listen net.Listener
	to     string

	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a proxy: %w", err)
	}
	p := &proxy{listen: l, to: to}
	go p.accept()
	return p, nil
}

func (p *proxy) addr() string { return p.listen.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.keep(client)
		go func() {
			// A connection that is made while the proxy hangs waits, too.
			if p.gate.pass(context.Background()) != nil {
				return
			}
			server, err := net.Dial("tcp", p.to)
			if err != nil {
				client.Close()
				return
			}
			p.keep(server)
			go p.forward(client, server)
			p.forward(server, client)
		}()
	}
}

func (p *proxy) forward(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || p.gate.pass(context.Background()) != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

func (p *proxy) close() {
	p.listen.Close()
	p.gate.hang(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}
