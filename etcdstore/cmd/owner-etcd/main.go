// Command owner-etcd runs commands while it owns a lease in etcd, shows who owns one, and
// takes it away. It is the command owner for leases that are shared by several machines.
package main

import (
	"context"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/cmdline"
	"github.com/ownerlease/owner/etcdstore"
)

const description = `Of all processes that name the same key in etcd, on whatever machine, one owns the
lease; the others wait, or learn who the owner is. When the owner dies or hangs, the
lease is free after its ttl.

  owner-etcd run --endpoints etcd0:2379,etcd1:2379 --key /locks/gpu0 -- python train.py
  owner-etcd ensure --endpoints etcd0:2379,etcd1:2379 --key /locks/gpu0 --lock /run/lock/gpu0 -- modeld
  owner-etcd status --endpoints etcd0:2379,etcd1:2379 --key /locks/gpu0
  owner-etcd watch --endpoints etcd0:2379,etcd1:2379 --key /locks/gpu0
  owner-etcd handover --endpoints etcd0:2379,etcd1:2379 --key /locks/gpu0
  owner-etcd revoke --endpoints etcd0:2379,etcd1:2379 --key /locks/gpu0`

const help = `The lease is kept in etcd under KEY and KEY.alive. Etcd counts in whole seconds,
and so does the ttl. The only condition of an owner that etcd shows is live.

Etcd is reached as with etcdctl, by the same flags or variables. But --key is the lease
here, and etcdctl's --key is --key-file. A password is taken from ETCDCTL_PASSWORD;
or from ETCDCTL_USER, if that is NAME:PASSWORD. With a login, etcd must be reachable at
the start; without one, the command waits for it.`

func main() {
	cmdline.RunHelperIfRequested()
	os.Exit(cmdline.Main(program(), os.Args))
}

func program() *cli.Command {
	run := cmdline.Run(&etcd)
	run.Flags = append(run.Flags, &cli.Uint64Flag{
		Name: "epoch-above", HideDefault: true,
		Usage: "have the epochs begin above `NUMBER`, as the lease was a file's before",
	})
	return &cli.Command{
		Name:        "owner-etcd",
		Usage:       "one process at a time owns a lease in etcd",
		Description: description,
		Commands:    []*cli.Command{run, cmdline.Ensure(&etcd), cmdline.Status(&etcd), cmdline.Watch(&etcd), cmdline.Handover(&etcd), cmdline.Revoke(&etcd, revoke)},
	}
}

// etcd keeps each lease in etcd.
var etcd = cmdline.Backend{
	Flag:  "key",
	Usage: "--key KEY",
	Help:  help,
	Flags: flags,
	Open:  open,
}

func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "key", OnlyOnce: true, Usage: "the lease is `KEY` in etcd"},
		&cli.StringFlag{Name: "endpoints", Usage: "etcd is at the `ADDRESSES`, with commas between", Value: "127.0.0.1:2379", Sources: cli.EnvVars("ETCDCTL_ENDPOINTS")},
		&cli.StringFlag{Name: "cacert", Usage: "trust a server whose certificate an authority in `FILE` has signed", Sources: cli.EnvVars("ETCDCTL_CACERT")},
		&cli.StringFlag{Name: "cert", Usage: "show the certificate in `FILE`", Sources: cli.EnvVars("ETCDCTL_CERT")},
		&cli.StringFlag{Name: "key-file", Usage: "the certificate's key is in `FILE`", Sources: cli.EnvVars("ETCDCTL_KEY")},
		&cli.StringFlag{Name: "user", Usage: "log in as `NAME`", Sources: cli.EnvVars("ETCDCTL_USER")},
		&cmdline.DurationFlag{Name: "dial-timeout", Usage: "give etcd `DURATION` to be reached", Value: 5 * time.Second, Sources: cli.EnvVars("ETCDCTL_DIAL_TIMEOUT")},
	}
}

func open(c *cli.Command) (*cmdline.Lease, error) {
	client, err := reach(c)
	if err != nil {
		return nil, err
	}
	key := c.String("key")
	// When this process dies, COMMAND is ended a moment later: no witness may say before that
	// the lease is free.
	store := etcdstore.New(client, key, etcdstore.EpochAbove(c.Uint64("epoch-above")), etcdstore.Unwitnessed())
	return &cmdline.Lease{
		Name:          key,
		Config:        owner.Config{Store: store},
		CountsSuspend: true,
		Patience:      c.Duration("dial-timeout"),
		Close:         func() { _ = client.Close() },
	}, nil
}

// revoke waits for an etcd that has to be reached first, as status does.
func revoke(ctx context.Context, l *cmdline.Lease) (owner.Record, error) {
	if _, err := l.Look(ctx); err != nil {
		return owner.Record{}, err
	}
	return l.Config.Store.(interface {
		Revoke(context.Context) (owner.Record, error)
	}).Revoke(ctx)
}
