package cmdline

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
)

// flagsOnly is a Backend whose leases cannot be opened: a mistake is found before.
var flagsOnly = Backend{
	Flag: "lease", Usage: "--lease PATH",
	Flags: func() []cli.Flag { return []cli.Flag{&cli.StringFlag{Name: "lease"}} },
	Open:  func(*cli.Command) (*Lease, error) { return nil, owner.ErrUnavailable },
}

func TestMistakesInChecks(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("other systems refuse some of these flags: see TestChecksElsewhere")
	}
	for flags, want := range map[string]string{
		"--notify --ready-cmd=x":                                  "--notify and --ready-cmd exclude each other",
		"--ready-cmd=":                                            "--ready-cmd is empty",
		"--health-cmd=":                                           "--health-cmd is empty",
		"--ready-timeout=1":                                       "--ready-timeout needs --notify or --ready-cmd",
		"--notify --ready-timeout=0":                              "--ready-timeout is 0",
		"--notify --ready-timeout=-1":                             "a duration cannot be negative",
		"--health-interval=1":                                     "--health-interval needs --health-cmd or --ready-cmd",
		"--notify --health-interval=1":                            "--health-interval needs --health-cmd or --ready-cmd",
		"--health-cmd=x --health-interval=0":                      "--health-interval is 0",
		"--health-timeout=1":                                      "--health-timeout needs --health-cmd or --notify",
		"--ready-cmd=x --health-timeout=1":                        "--health-timeout needs --health-cmd or --notify",
		"--health-cmd=x --health-timeout=3":                       "--health-timeout is 3s; it must be longer than --health-interval, 3.333333333s",
		"--health-cmd=x --health-interval=1 --health-timeout=1":   "it must be longer than --health-interval, 1s",
		"--notify --health-timeout=0":                             "--health-timeout is 0s; it must be 50ms at least",
		"--health-cmd=x --health-timeout=.01 --health-interval=5": "--health-timeout is 10ms; it must be 50ms at least",
		"--restart=-1":                                            "--restart -1 is negative",
		"--restart=often":                                         `invalid value "often" for flag -restart`,
		// Nothing wrong: the lease comes next.
		"--notify --health-timeout=1":                              owner.ErrUnavailable.Error(),
		"--health-cmd=x --health-interval=60":                      owner.ErrUnavailable.Error(),
		"--ready-cmd=x --ready-timeout=1 --restart=0":              owner.ErrUnavailable.Error(),
		"--notify --health-cmd=x --health-interval=1 --restart=99": owner.ErrUnavailable.Error(),
	} {
		var stderr bytes.Buffer
		program := &cli.Command{Name: "owner", Writer: &stderr, ErrWriter: &stderr, Commands: []*cli.Command{Run(&flagsOnly)}}
		code := Main(program, append(append([]string{"owner", "run", "--lease=x"}, strings.Fields(flags)...), "true"))
		if got := stderr.String(); code != codeFailed || !strings.Contains(got, strings.TrimPrefix(want, "owner: ")) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: exit %d, %q; want %q", flags, code, got, want)
		}
	}
}

// Where a check cannot be made, it is refused: a lease without it would look as if it had one.
func TestChecksElsewhere(t *testing.T) {
	t.Parallel()
	for flags, systems := range map[string]string{"--notify": "linux", "--ready-cmd=x": "linux darwin freebsd", "--health-cmd=x": "linux darwin freebsd"} {
		var stderr bytes.Buffer
		program := &cli.Command{Name: "owner", Writer: &stderr, ErrWriter: &stderr, Commands: []*cli.Command{Run(&flagsOnly)}}
		Main(program, []string{"owner", "run", "--lease=x", flags, "true"})
		if refused := strings.Contains(stderr.String(), "supported on"); refused == strings.Contains(systems, runtime.GOOS) {
			t.Errorf("%s: %s", flags, &stderr)
		}
	}
}
