package reach

import (
	"context"
	"errors"
	"net/http"
	"sync"

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

	once   sync.Once
	client *Client
}

// Run campaigns for the lease and serves while this process owns it, like
// owner.Run(ctx, n.Config, n.Server.Serve), and returns what that does. The requests to
// Handler are forwarded still when it has returned, unless it made the Client.
func (n *Node) Run(ctx context.Context) error {
	if n.Server == nil {
		return errors.New("reach: the Node has no Server")
	}
	c := n.reach()
	if n.Client == nil {
		defer c.Close()
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
func (n *Node) Handler() http.Handler { return Forward(n.reach()) }

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
