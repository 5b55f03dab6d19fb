package cmdline

import (
	"errors"
	"os"
	"runtime"

	"github.com/urfave/cli/v3"
)

// refusedFlags are the flags of flock(1) that a lease has no use for, and why.
var refusedFlags = []struct{ name, short, why string }{
	{"shared", "s", "a lease has one owner"},
	{"unlock", "u", "the lease is released when COMMAND has ended; to take it away from its owner: owner revoke"},
	{"close", "o", "COMMAND never inherits the lease's files, and what it leaves behind is ended before the release"},
	{"no-fork", "F", "the lease must be renewed while COMMAND runs"},
}

// flockFlags are flags of flock(1) that the help does not list: those that are refused,
// and the one that asks for the default.
func flockFlags() []cli.Flag {
	all := []cli.Flag{&cli.BoolFlag{Name: "exclusive", Aliases: []string{"x", "e"}, Hidden: true}}
	for _, f := range refusedFlags {
		all = append(all, &cli.BoolFlag{Name: f.name, Aliases: []string{f.short}, Hidden: true})
	}
	return all
}

// flockMistake refuses the flags of flock(1) that mean nothing here.
func flockMistake(c *cli.Command) error {
	for _, f := range refusedFlags {
		if c.Bool(f.name) {
			return usage(c, "-%s (%s) is not supported: %s", f.short, f.name, f.why)
		}
	}
	return nil
}

// errNoShell is for systems whose shell takes its arguments in another way.
var errNoShell = errors.New("-c is not supported on Windows: give COMMAND, such as cmd /C …")

// commandMistake says what is wrong with COMMAND, or with -c in its place.
func commandMistake(c *cli.Command) error {
	present := c.Args().Present()
	switch {
	case !c.IsSet("command") && !present:
		return usage(c, "COMMAND is missing")
	case !c.IsSet("command"):
		return nil
	case present:
		return usage(c, "-c and COMMAND exclude each other")
	case c.String("command") == "":
		return usage(c, "-c is empty")
	case runtime.GOOS == "windows":
		return usage(c, "%w", errNoShell)
	}
	return nil
}

// commandOf is COMMAND, or the shell that runs the line of -c.
func commandOf(c *cli.Command) []string {
	if !c.IsSet("command") {
		return c.Args().Slice()
	}
	return shellLine(c, "command")
}

// shellLine has the shell run the line of a flag; nil where that is not set.
func shellLine(c *cli.Command, flag string) []string {
	if !c.IsSet(flag) {
		return nil
	}
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	return []string{shell, "-c", c.String(flag)}
}
