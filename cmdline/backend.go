package cmdline

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

// A Backend is where a program's leases are kept: all that its subcommands need to know.
type Backend struct {
	// Flag is the name of the flag that names a lease, and Usage how that is written
	// in a line of usage.
	Flag, Usage string
	// Help is a paragraph on the backend, for the help of every subcommand; it may be "".
	Help string
	// Flags returns the flags for a lease, new ones for each subcommand.
	Flags func() []cli.Flag
	// HasModes says that the leases are files, which have permissions.
	HasModes bool
	// Open is the lease that the flags name; Flag is not empty then.
	Open func(c *cli.Command) (*Lease, error)
}

// A Lease is one that the flags of a command have named.
type Lease struct {
	// Name is the lease's name in the output, and in COMMAND's environment.
	Name string
	// Config says where the lease is kept: its LeasePath, which is then its Name, or its
	// Store. The command sets the rest.
	Config owner.Config
	// CountsSuspend says that the lease's clock counts the time in which the machine is
	// suspended: that of a Store for several machines does, that of a lease file does not.
	CountsSuspend bool
	// Patience is how long status and revoke ask a Store that is not available.
	Patience time.Duration
	// Close frees what Open has opened; it is nil where there is nothing to free.
	Close func()
}

// describe is a subcommand's help. Main finds the exit codes in it.
func (p *Backend) describe(what, codes string) string {
	if p.Help != "" {
		what += "\n\n" + p.Help
	}
	return what + "\n\n" + exitCodes + "\n" + codes
}

// open opens the lease of a command whose only other arguments are flags.
func (p *Backend) open(c *cli.Command) (*Lease, error) {
	switch {
	case c.String(p.Flag) == "":
		return nil, p.missing(c)
	case c.Args().Present():
		return nil, usage(c, "%q is one argument too many", c.Args().First())
	}
	return p.opened(c)
}

func (p *Backend) missing(c *cli.Command) error { return usage(c, "--%s is missing", p.Flag) }

func (p *Backend) opened(c *cli.Command) (*Lease, error) {
	l, err := p.Open(c)
	if err != nil {
		return nil, fail(err)
	}
	return l, nil
}

func (l *Lease) close() {
	if l.Close != nil {
		l.Close()
	}
}

// probe is owner.Probe; for a Store, it is made from what a read shows.
func (l *Lease) probe(path string) (owner.Status, error) {
	s := l.Config.Store
	if s == nil {
		return owner.Probe(path)
	}
	view, err := l.Look(context.Background())
	switch {
	case err != nil:
		return owner.Status{}, err
	case view.Free():
		return owner.Status{}, fs.ErrNotExist
	}
	st := owner.Status{Record: view.Holder, Condition: owner.Live, Remaining: view.Holder.TTL}
	if view.Until != 0 {
		// A store may add the time that it takes to detect expiry.
		st.Remaining = min(max(0, view.Until-s.Now()), view.Holder.TTL)
	}
	return st, nil
}

// Look reads the lease from its Store until there is an answer, or Patience is over: the
// store may have to be reached first. Where ctx has ended, its cause is the error.
func (l *Lease) Look(ctx context.Context) (owner.View, error) {
	parent := ctx
	ctx, end := context.WithTimeout(ctx, l.Patience)
	defer end()
	var trouble error
	for {
		view, err := l.Config.Store.Look(ctx)
		switch {
		case parent.Err() != nil:
			return view, context.Cause(parent)
		case trouble != nil && ctx.Err() != nil:
			return view, trouble // it says more than that the time is over
		case !errors.Is(err, owner.ErrUnavailable):
			return view, err
		}
		trouble = err
		select {
		case <-time.After(100 * time.Millisecond):
		case <-parent.Done():
			return view, context.Cause(parent)
		case <-ctx.Done():
			return view, trouble
		}
	}
}

// watch is owner.Watch, also for a Store.
func (l *Lease) watch(ctx context.Context, path string) iter.Seq2[owner.Record, error] {
	if l.Config.Store == nil {
		return owner.Watch(ctx, path)
	}
	return owner.WatchStore(ctx, l.Config.Store)
}
