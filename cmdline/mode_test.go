package cmdline

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
)

// A backend without files offers no mode that would do nothing.
func TestModeIsForFiles(t *testing.T) {
	t.Parallel()
	for _, has := range []bool{true, false} {
		p := &Backend{Flag: "key", HasModes: has, Flags: func() []cli.Flag { return nil }}
		offered := false
		for _, f := range Run(p).Flags {
			offered = offered || strings.Contains(strings.Join(f.Names(), " "), "mode")
		}
		if offered != has {
			t.Errorf("has modes: %v; --mode is offered: %v", has, offered)
		}
	}
}
