package cmdline

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

const listDescription = `Prints a line for each lease in the folder DIR, and not in those below it: its name,
its condition as "status" says it, its owner or its last one, the epoch, the owner's
endpoint, and when the lease expires unless it is renewed; "-" stands for what is not
known. A lease is a file with a record of a lease that can be read; all others are left
out, also those that may not be read. It only reads.

With --json, an array of the objects that "status --json" prints.`

const listCodes = `  0           the folder was read, whether there are leases in it or not
  125         this program itself failed, as with a folder that cannot be read`

// List is the subcommand that lists the leases of a folder.
func List() *cli.Command {
	return &cli.Command{
		Name:            "list",
		Usage:           "list the leases in a folder",
		ArgsUsage:       "DIR",
		Description:     listDescription + "\n\n" + exitCodes + "\n" + listCodes,
		HideHelpCommand: true,
		Flags:           []cli.Flag{jsonFlag()},
		Action:          listAction,
	}
}

func listAction(_ context.Context, c *cli.Command) error {
	switch {
	case c.Args().First() == "":
		return usage(c, "DIR is missing")
	case c.NArg() > 1:
		return usage(c, "%q is one argument too many", c.Args().Get(1))
	}
	leases, err := leasesIn(c.Args().First())
	if err != nil {
		return fail(err)
	}
	show := listText
	if c.Bool("json") {
		show = listJSON
	}
	if err := show(c.Root().Writer, leases, time.Now()); err != nil {
		return fail(err)
	}
	return nil
}

// temporary is the name of a record that has not become a lease's, or not yet.
var temporary = regexp.MustCompile(`\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tmp$`)

func leasesIn(folder string) ([]*report, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var leases []*report
	for _, f := range files {
		if !f.Type().IsRegular() || temporary.MatchString(f.Name()) {
			continue
		}
		if r := leaseAt(filepath.Join(folder, f.Name())); r != nil {
			leases = append(leases, r)
		}
	}
	return leases, nil
}

// leaseAt is nil for a file that is no lease.
func leaseAt(path string) *report {
	if _, err := owner.Inspect(path); err != nil {
		return nil
	}
	r, err := look(path, owner.Probe)
	switch {
	case err != nil: // there is a lease, and no more is known: the others are listed all the same
		return &report{lease: path, Status: owner.Status{Condition: unreadable}, damage: plain(err)}
	case r.Condition == none: // it was removed meanwhile
		return nil
	}
	return r
}

// listText prints the human-readable list.
func listText(w io.Writer, leases []*report, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range leases {
		holder, epoch, expires := "-", "-", "-"
		if r.Record.InstanceID != "" {
			holder = name(r.Record)
		}
		if r.told() {
			epoch = fmt.Sprint(r.Record.Epoch)
		}
		if at := r.expires(now); !at.IsZero() {
			expires = local(at)
		}
		endpoint := cmp.Or(r.Record.Meta[owner.EndpointMetaKey], "-")
		// The cells are cleaned one by one: what parts them is a control character.
		fmt.Fprintf(table, "%s\t%s\t%s\tepoch %s\tendpoint %s\texpires %s\n",
			clean(filepath.Base(r.lease)), r.Condition, clean(holder), epoch, clean(endpoint), expires)
	}
	return table.Flush()
}

// listJSON prints the machine-readable list.
func listJSON(w io.Writer, leases []*report, now time.Time) error {
	objects := make([]jsonReport, len(leases)) // an empty array, not null
	for i, r := range leases {
		objects[i] = r.object(now)
	}
	return writeJSON(w, objects)
}
