package run

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/ownerlease/owner/internal/sdnotify"
)

// A probe is a command that says by its exit code whether COMMAND is ready, or healthy. It
// has COMMAND's environment and folder, an empty input, and a time limit, and it runs under
// a process that ends, behind it, all that it has started: see beProber.

// probeEnv makes a prober of this program: the time limit. It is no interface, and the
// probe does not see it.
const probeEnv = "_OWNER_PROBE"

// A probeResult is what a prober prints, as JSON.
type probeResult struct {
	Failed string // why it could not be run, or ended in time
	Code   int
	Signal int    // that has ended it
	Output string // the end of what it has printed
}

// errProbeGone is the outcome of a probe that has said none: it was killed.
var errProbeGone = errors.New("it was ended from outside")

// err is nil for a probe that has succeeded.
func (r probeResult) err() error {
	var what string
	switch {
	case r.Failed != "":
		what = r.Failed
	case r.Signal != 0:
		what = "ended by a signal: " + syscall.Signal(r.Signal).String()
	case r.Code != 0:
		what = fmt.Sprintf("exit code %d", r.Code)
	default:
		return nil
	}
	if out := sdnotify.Clean(r.Output); out != "" {
		what += ": " + out
	}
	return errors.New(what)
}

// A probeOrder is a probe, as it is to be run.
type probeOrder struct {
	limit time.Duration
	dir   string
	path  string
	args  []string
}

// mostOutput is how much of what a probe prints is kept: the end of it.
const mostOutput = 1024

// A tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.text = append(t.text, b[max(0, len(b)-mostOutput):]...)
	t.text = t.text[max(0, len(t.text)-mostOutput):]
	return len(b), nil
}
