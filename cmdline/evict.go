package cmdline

import (
	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

// evictFlags is --kill-hung, where the leases are files: no other store can tell a hung
// owner from a dead one.
func (p *Backend) evictFlags() []cli.Flag {
	if !p.HasModes {
		return nil
	}
	return []cli.Flag{&cli.BoolFlag{
		Name: "kill-hung", HideDefault: true,
		Usage: "kill the process of an owner whose lease has expired, and all that it does, before taking the lease (Linux, Windows)",
	}}
}

func evictHung(c *cli.Command, cfg *owner.Config) {
	if c.Bool("kill-hung") {
		cfg.Evict = owner.KillHolder
	}
}
