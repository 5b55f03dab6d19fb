package cmdline

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner/internal/demo"
)

const demoDescription = `Starts three processes that contend for a lease in a temporary folder. Kills the
owner; stops the next one, and resumes it when a third has taken over; makes that one
release. Prints who owns, draws a timeline, measures the takeovers, and checks that
there were never two owners. It takes about eight seconds.

` + exitCodes + "\n" + demoCodes

const demoCodes = `  0           there were never two owners
  1           there were
  125         the demo could not be shown
  128+n       signal n has ended it`

// Demo is the subcommand that shows what a lease does.
func Demo() *cli.Command {
	return &cli.Command{
		Name:            "demo",
		Usage:           "show how three processes take over from each other",
		ArgsUsage:       " ",
		Description:     demoDescription,
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "svg", Usage: "draw the timeline in `FILE`, too"},
		},
		Action: demoAction,
	}
}

func demoAction(ctx context.Context, c *cli.Command) error {
	if c.Args().Present() {
		return usage(c, "%q is one argument too many", c.Args().First())
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	return demoExit(demo.Run(ctx, demo.Options{Out: c.Root().Writer, SVG: c.String("svg")}))
}

// demoExit is the exit of demo.
func demoExit(err error) error {
	var (
		overlap *demo.OverlapError
		ended   *exit
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &overlap):
		return &exit{codeOverlap, overlap}
	case errors.As(err, &ended):
		return ended
	}
	return fail(err)
}
