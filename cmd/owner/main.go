// Command owner runs commands while it owns a lease, starts an owner on demand, shows who
// owns a lease, has it handed over, and takes it away.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/cmdline"
	"github.com/ownerlease/owner/internal/demo"
)

//go:generate go test -run TestManPageIsCurrent . -update

const description = `Of all processes that name the same lease file, one owns it; the others wait, or
learn who the owner is. There is no daemon. When the owner dies, the lease is free
at once; when it hangs, after the lease's ttl.

  owner demo
  owner run --lease /run/lock/gpu0 -- python train.py
  owner ensure --lease /run/lock/gpu0 -- modeld
  owner status --lease /run/lock/gpu0
  owner list /run/lock
  owner watch --lease /run/lock/gpu0
  owner handover --lease /run/lock/gpu0
  owner revoke --lease /run/lock/gpu0`

func main() {
	cmdline.RunHelperIfRequested()
	demo.RunChildIfRequested()
	os.Exit(cmdline.Main(program(), os.Args))
}

func program() *cli.Command {
	return &cli.Command{
		Name:        "owner",
		Usage:       "one process at a time owns a lease",
		Description: description,
		Commands: []*cli.Command{
			cmdline.Run(&files), cmdline.Ensure(&files), cmdline.Status(&files), cmdline.List(), cmdline.Watch(&files),
			cmdline.Handover(&files), cmdline.Revoke(&files, revoke), cmdline.Demo(), cmdline.Diagram(),
		},
	}
}

// files keeps each lease in a file.
var files = cmdline.Backend{
	Flag:  "lease",
	Usage: "--lease PATH",
	Flags: func() []cli.Flag {
		return []cli.Flag{&cli.StringFlag{Name: "lease", OnlyOnce: true, Usage: "the lease file is `PATH`; its folder must exist"}}
	},
	HasModes: true,
	Open: func(c *cli.Command) (*cmdline.Lease, error) {
		path, err := filepath.Abs(c.String("lease"))
		return &cmdline.Lease{Name: path, Config: owner.Config{LeasePath: path}}, err
	},
}

func revoke(ctx context.Context, l *cmdline.Lease) (owner.Record, error) {
	return owner.Revoke(ctx, l.Name)
}
