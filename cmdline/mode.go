package cmdline

import (
	"fmt"
	"io/fs"
	"strconv"

	"github.com/urfave/cli/v3"
)

// modeFlags is --mode, where leases have one.
func (p *Backend) modeFlags() []cli.Flag {
	if !p.HasModes {
		return nil
	}
	return []cli.Flag{&cli.StringFlag{
		Name: "mode", HideDefault: true,
		Usage: "who else may follow (read) or take part (write): the `OCTAL` mode of the lease's files (default: 0600, or as it is)",
	}}
}

// fileMode is the mode that was given, 0 for none. Whether a lease can have it is for
// the library to say.
func fileMode(c *cli.Command) (fs.FileMode, error) {
	if !c.IsSet("mode") {
		return 0, nil
	}
	text := c.String("mode")
	n, err := strconv.ParseUint(text, 8, 16)
	switch {
	case err != nil:
		return 0, fmt.Errorf("--mode %q is not an octal mode like 0640", text)
	case n == 0: // to the library, it would be none
		return 0, fmt.Errorf("--mode %s lets no user write: the lease could not be acquired", text)
	}
	return fs.FileMode(n), nil
}
