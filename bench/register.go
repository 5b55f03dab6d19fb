package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"sync"
)

// A Register is the least that a lease over a network needs: cells that only a client
// with their last version can replace. It is in the parent's memory, and the children
// reach it over a socket.
type Register struct {
	mu    sync.Mutex
	cells map[string]Cell
}

// A Cell is the value of a name: version 0 if there is none.
type Cell struct {
	Version uint64
	Data    []byte
}

// A Replacement is for the cell with the version before its own.
type Replacement struct {
	Name string
	Cell
}

// Get reads a cell.
func (r *Register) Get(name string, c *Cell) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	*c = r.cells[name]
	return nil
}

// Put replaces a cell, and reports whether it has: it does not if another client was quicker.
func (r *Register) Put(p Replacement, done *bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *done = r.cells[p.Name].Version+1 == p.Version; *done {
		r.cells[p.Name] = p.Cell
	}
	return nil
}

// overwrite replaces a cell behind the clients' backs.
func (r *Register) overwrite(name string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cells[name] = Cell{r.cells[name].Version + 1, data}
}

// serve serves the register on a free port, until the listener is closed.
func (r *Register) serve() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve the register: %w", err)
	}
	s := rpc.NewServer()
	if err := s.Register(r); err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(conn)
		}
	}()
	return l, nil
}

// A registerClient is one process's way to one cell.
type registerClient struct {
	rpc  *rpc.Client
	name string
	deaf bool // ignores the contexts it is given
	gate gate
}

func dialRegister(s spec) (*registerClient, error) {
	c, err := rpc.Dial("tcp", s.Addr)
	if err != nil {
		return nil, fmt.Errorf("reach the register: %w", err)
	}
	return &registerClient{rpc: c, name: s.Name, deaf: s.Deaf}, nil
}

func (c *registerClient) get(ctx context.Context) (cell Cell, err error) {
	err = c.call(ctx, "Register.Get", c.name, &cell)
	return cell, err
}

// errChanged: another client has replaced the cell.
var errChanged = errors.New("the record has another version by now")

func (c *registerClient) put(ctx context.Context, version uint64, data []byte) error {
	var done bool
	err := c.call(ctx, "Register.Put", Replacement{c.name, Cell{version, data}}, &done)
	if err == nil && !done {
		err = errChanged
	}
	return err
}

func (c *registerClient) call(ctx context.Context, method string, args, reply any) error {
	if c.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if err := c.gate.pass(ctx); err != nil {
		return err
	}
	select {
	case call := <-c.rpc.Go(method, args, reply, make(chan *rpc.Call, 1)).Done:
		return call.Error
	case <-ctx.Done():
		return ctx.Err()
	}
}
