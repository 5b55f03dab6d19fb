package reach

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/ownerlease/owner"
)

// Node is for a program each copy of which can own the lease: it serves what its own
// clients ask while it owns, and forwards it otherwise. Its fields must not change once
// it is in use.
type Node struct {
	// Config is how the lease is joined. Its Endpoint is not used: the Server says where
	// it listens, when it does.
	Config owner.Config
	// Server is how this copy serves as the owner.
	Server *Server
	// Client is how it reaches another that is. nil is one with the lease of Config,
	// and without a lease it gets that.
	Client *Client

	once     sync.Once
	client   *Client
	underWay underWay // of a Client that it has made
}

// Run campaigns for the lease and serves while this process owns it, like
// owner.Run(ctx, n.Config, n.Server.Serve), and returns what that does. The requests to
// Handler are forwarded still when it has returned, unless it made the Client: then, when
// ctx has ended, it waits for those that are under way, for as long as the Server's Drain,
// and closes the Client.
func (n *Node) Run(ctx context.Context) error {
	if n.Server == nil {
		return errors.New("reach: the Node has no Server")
	}
	c := n.reach()
	if n.Client == nil {
		defer func() {
			if ctx.Err() != nil {
				n.underWay.wait(n.Server.drainTime())
			}
			_ = c.Close()
		}()
	}
	if _, err := c.follower(); err != nil { // the first request need not wait for it
		return err
	}
	cfg := n.Config
	cfg.Endpoint = "" // clients would come before the Server is prepared
	return owner.Run(ctx, cfg, n.Server.Serve)
}

// Handler returns a handler for the clients of this copy. While it owns and is prepared,
// it calls the Server's handler; otherwise it forwards like [Forward], and holds requests
// while there is no owner that is prepared. It can be served before Run is called.
func (n *Node) Handler() http.Handler {
	h := Forward(n.reach())
	if n.Client != nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.underWay.begin()
		defer n.underWay.end()
		h.ServeHTTP(w, r)
	})
}

// reach is the Client, set up for this Node.
func (n *Node) reach() *Client {
	n.once.Do(func() {
		n.client = n.Client
		if n.client == nil {
			n.client = &Client{}
		}
		if n.client.LeasePath == "" && n.client.Store == nil {
			n.client.LeasePath, n.client.Store = n.Config.LeasePath, n.Config.Store
		}
		n.client.inProcess = true
	})
	return n.client
}

// underWay counts the requests that a handler has not answered.
type underWay struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // nil, or closed when n is 0
}

func (u *underWay) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n++
}

func (u *underWay) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.none != nil {
		close(u.none)
		u.none = nil
	}
}

// wait waits until there are none, for so long.
func (u *underWay) wait(limit time.Duration) {
	u.mu.Lock()
	if u.n == 0 {
		u.mu.Unlock()
		return
	}
	none := make(chan struct{})
	u.none = none
	u.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-none:
	case <-timer.C:
	}
}
