// Command owner-pg runs commands while it owns a lease in Postgres, shows who owns one,
// and takes it away. It is the command owner for leases that are shared by several
// machines.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/cmdline"
	"github.com/ownerlease/owner/pgstore"
)

const description = `Of all processes that name the same key in one database, on whatever machine, one owns
the lease; the others wait, or learn who the owner is. When the owner dies or hangs, the
lease is free after its ttl.

  owner-pg setup --dsn postgres://db/app
  owner-pg run --dsn postgres://db/app --key gpu0 -- python train.py
  owner-pg status --dsn postgres://db/app --key gpu0
  owner-pg watch --dsn postgres://db/app --key gpu0
  owner-pg handover --dsn postgres://db/app --key gpu0
  owner-pg revoke --dsn postgres://db/app --key gpu0`

const help = `The lease is a row of the table owner_lease, which "owner-pg setup" makes. The only
condition of an owner that Postgres shows is live.

Postgres is reached as with psql: by --dsn, which is a URL or a list such as "host=db
dbname=app", and for what it leaves out by PGHOST, PGPORT, PGDATABASE, PGUSER,
PGPASSWORD, PGSSLMODE and the like, or ~/.pgpass. Do not put a password into --dsn: every
user of a machine can read a command line; PG_DSN is taken in its place.`

func main() {
	cmdline.RunHelperIfRequested()
	os.Exit(cmdline.Main(program(), os.Args))
}

func program() *cli.Command {
	return &cli.Command{
		Name:        "owner-pg",
		Usage:       "one process at a time owns a lease in Postgres",
		Description: description,
		Commands: []*cli.Command{
			cmdline.Run(&postgres), cmdline.Ensure(&postgres), cmdline.Status(&postgres), cmdline.Watch(&postgres),
			cmdline.Handover(&postgres), cmdline.Revoke(&postgres, revoke), setup(),
		},
	}
}

// postgres keeps each lease in Postgres.
var postgres = cmdline.Backend{
	Flag:  "key",
	Usage: "--key KEY",
	Help:  help,
	Flags: func() []cli.Flag {
		return append([]cli.Flag{&cli.StringFlag{Name: "key", OnlyOnce: true, Usage: "the lease is `KEY` in the table owner_lease"}}, reaching()...)
	},
	Open: open,
}

// reaching are the flags of the connection.
func reaching() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dsn", OnlyOnce: true, Usage: "Postgres is at `URL`, or what \"host=… dbname=…\" says", Sources: cli.EnvVars("PG_DSN")},
		&cmdline.DurationFlag{Name: "dial-timeout", Usage: "give Postgres `DURATION` to be reached", Value: 5 * time.Second},
	}
}

// reach makes the DB that the flags ask for. It connects to nothing.
func reach(c *cli.Command) (*pgstore.DB, error) {
	timeout := c.Duration("dial-timeout")
	if timeout <= 0 {
		return nil, fmt.Errorf("--dial-timeout %v is not positive", timeout)
	}
	cfg, err := pgxpool.ParseConfig(c.String("dsn"))
	if err != nil {
		return nil, fmt.Errorf("cannot use --dsn, or a PG… variable: %w", err)
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = timeout
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "owner-pg"
	}
	return pgstore.Open(cfg)
}

func open(c *cli.Command) (*cmdline.Lease, error) {
	db, err := reach(c)
	if err != nil {
		return nil, err
	}
	key := c.String("key")
	return &cmdline.Lease{
		Name: key,
		// When this process dies, COMMAND is ended a moment later: no witness may say before
		// that the lease is free.
		Config:        owner.Config{Store: &leased{pgstore.New(db, key, pgstore.Unwitnessed()).(owner.HandoverStore), db}},
		CountsSuspend: true,
		Patience:      c.Duration("dial-timeout"),
		Close:         db.Close,
	}, nil
}

// leased is a store that knows its DB.
type leased struct {
	owner.HandoverStore
	db *pgstore.DB
}

func (s *leased) String() string { return fmt.Sprint(s.HandoverStore) }

// revoke waits for a server that has to be reached first, as status does.
func revoke(ctx context.Context, l *cmdline.Lease) (owner.Record, error) {
	if _, err := l.Look(ctx); err != nil {
		return owner.Record{}, err
	}
	return pgstore.Revoke(ctx, l.Config.Store.(*leased).db, l.Name)
}

const setupDescription = `Makes the table owner_lease in the first schema of the search_path, or does nothing where
it is there. It needs the right to create a table there; the other subcommands need
USAGE on the schema, and SELECT, INSERT and UPDATE on the table.

No lease can have a longer ttl than --max-ttl. After a failover, in which a server may
have lost who owns, no lease is acquired until so much time has passed.

EXIT CODES
  0           the table is there
  125         it is not: wrong usage, no right, or Postgres does not answer`

// setup is the subcommand that makes the table.
func setup() *cli.Command {
	return &cli.Command{
		Name:        "setup",
		Usage:       "make the table of the leases, once for each database",
		Description: setupDescription,
		Flags: append(reaching(),
			&cmdline.DurationFlag{Name: "max-ttl", Value: pgstore.DefaultMaxTTL, Usage: "the longest ttl of a lease is `DURATION`"}),
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return fmt.Errorf("%q is one argument too many", c.Args().First())
			}
			if c.Duration("max-ttl") <= 0 {
				return fmt.Errorf("--max-ttl %v is not positive", c.Duration("max-ttl"))
			}
			db, err := reach(c)
			if err != nil {
				return cmdline.Fail(err)
			}
			defer db.Close()
			ctx, cancel := context.WithTimeout(ctx, c.Duration("dial-timeout"))
			defer cancel()
			return cmdline.Fail(pgstore.Setup(ctx, db, c.Duration("max-ttl")))
		},
	}
}
