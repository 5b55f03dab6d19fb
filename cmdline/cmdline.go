// Package cmdline builds the command owner for a store: its subcommands, flags, messages,
// output and exit codes. The commands owner (lease files) and owner-etcd are made of it,
// and so can be one for a [owner.Store] of another kind: it describes the store in a
// [Backend], makes the subcommands that it wants, and hands them to [Main].
//
// The package runs commands, and so keeps the main goroutine on the main thread.
package cmdline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"unicode"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/run"
)

// exitCodes is the heading of the exit codes at the end of a subcommand's help.
const exitCodes = "EXIT CODES"

// The commands' own exit codes. "run" otherwise exits with that of COMMAND, or 128+n if
// signal n has ended it.
const (
	codeOverlap    = 1 // demo
	codeNotOwned   = 3 // status, revoke
	codeUnreadable = 4 // status
	codeNotReady   = 120
	codeOutlived   = 121
	codeLost       = 122
	codeConflict   = 123
	codeTimeout    = 124
	codeFailed     = 125
	codeCannotRun  = 126
	codeNotFound   = 127
)

// filesOfGo is how many files the Go runtime, and a lease, take at least.
const filesOfGo = 6

// An exit ends a command with a code other than 0. err is its message, nil for none.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

// fail is for errors without their own code.
func fail(err error) error { return &exit{codeFailed, err} }

// RunHelperIfRequested makes this process a helper of another, if [Run] has started it as
// one, and then does not return: on Linux, "run" starts its own program again to watch
// over COMMAND. It must come first in main.
func RunHelperIfRequested() { run.RunHelperIfRequested() }

// Main runs the program and returns its exit code. The exit codes of its
// subcommands are added to its help.
func Main(program *cli.Command, args []string) int {
	program.Description += allExitCodes(program)
	program.Version = version()
	program.EnableShellCompletion = true
	program.ConfigureShellCompletionCommand = func(completion *cli.Command) {
		completion.Hidden = false
		completion.Usage = "print the completion script for bash, zsh, fish or pwsh"
		returnMistakes(completion)
	}
	program.Action = func(_ context.Context, c *cli.Command) error {
		if c.Args().Present() {
			return usage(c, "there is no command %q", c.Args().First())
		}
		return cli.ShowRootCommandHelp(c)
	}
	returnMistakes(program)
	// The code and the message are ours to choose, in one place.
	program.ExitErrHandler = func(context.Context, *cli.Command, error) {}

	if err := run.CheckFiles(filesOfGo); err != nil {
		complain(cmp.Or[io.Writer](program.ErrWriter, os.Stderr), program.Name, err)
		return codeFailed
	}
	err := program.Run(context.Background(), endFlags(program, args))
	if err == nil {
		return 0
	}
	var e *exit
	if !errors.As(err, &e) {
		errors.As(usage(program, "%w", err), &e)
	}
	var (
		killed *run.SignalError
		gaveUp *run.GaveUpError
	)
	isKilled := errors.As(e.err, &killed)
	if e.err != nil && (!isKilled || errors.As(e.err, &gaveUp)) {
		signal.Ignore(syscall.SIGPIPE) // the code is wanted even if stderr is closed
		complain(program.ErrWriter, program.Name, e.err)
	}
	if isKilled {
		run.Die(killed.Signal)
	}
	return e.code
}

func allExitCodes(program *cli.Command) string {
	var b strings.Builder
	for _, sub := range program.Commands {
		if _, codes, ok := strings.Cut(sub.Description, exitCodes+"\n"); ok {
			fmt.Fprintf(&b, "\n\n%s of %s\n%s", exitCodes, sub.Name, codes)
		}
	}
	return b.String()
}

// returnMistakes makes the command and its subcommands return usage errors, in place of a
// page of help on stdout.
func returnMistakes(c *cli.Command) {
	c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error { return usage(c, "%w", err) }
	for _, sub := range c.Commands {
		returnMistakes(sub)
	}
}

// usage is a mistake in the command line.
func usage(c *cli.Command, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return fail(fmt.Errorf("%w (see: %s --help)", err, c.FullName()))
}

// Diagram is the subcommand that prints the state diagram.
func Diagram() *cli.Command {
	return &cli.Command{
		Name:            "diagram",
		Usage:           "print the state diagram of an owner, for Mermaid",
		HideHelpCommand: true,
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usage(c, "%q is one argument too many", c.Args().First())
			}
			if _, err := io.WriteString(c.Root().Writer, owner.Diagram()); err != nil {
				return fail(err)
			}
			return nil
		},
	}
}

// complain prints an error in one line.
func complain(w io.Writer, program string, err error) {
	fmt.Fprintf(w, "%s: %s\n", program, clean(plain(err)))
}

// plain is an error in one line, without the package's name: its errors say whose
// they are, and here that goes without saying.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return strings.ReplaceAll(strings.TrimPrefix(text, "owner: "), ": owner: ", ": ")
}

// clean removes control characters, and those that change the direction or the order of
// others: a record may come from an untrusted user.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return -1
	}, s)
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

// endFlags puts "--" in front of COMMAND, so that all that follows is COMMAND's.
// Otherwise, urfave/cli takes a "--" that is COMMAND's first argument for its own, also
// with StopOnNthArg, and searches for its flags again after an empty one.
func endFlags(program *cli.Command, args []string) []string {
	if len(args) < 2 {
		return args
	}
	sub := program.Command(args[1])
	if sub == nil || !strings.HasSuffix(sub.ArgsUsage, commandArg) {
		return args
	}
	for i := 2; i < len(args); i++ {
		name, dashed := strings.CutPrefix(args[i], "-")
		switch {
		case name == "-":
			return args
		case !dashed || name == "":
			return append(append(args[:i:i], "--"), args[i:]...)
		}
		long, _, valued := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if !valued && (takesValue(sub, long) || takesValue(sub, lastShort(sub, name))) {
			i++
		}
	}
	return args
}

// lastShort is the last one of short flags that are joined: of -nE, the one that can
// take a value.
func lastShort(c *cli.Command, joined string) string {
	if !c.UseShortOptionHandling || strings.HasPrefix(joined, "-") || joined == "" {
		return ""
	}
	return joined[len(joined)-1:]
}

func takesValue(c *cli.Command, name string) bool {
	for _, f := range c.Flags {
		for _, n := range f.Names() {
			if _, isBool := f.(*cli.BoolFlag); n == name {
				return !isBool
			}
		}
	}
	return false
}
