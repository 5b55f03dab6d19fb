// Package demo shows what the library does: three processes contend for one lease; its
// owner is killed, the next one is stopped and resumed, and the third releases it. It
// measures how long each takeover takes, and checks that there were never two owners.
//
// The three are real processes: this program, started again (see BeChild). Each
// asks its IsOwner every millisecond, and reports the answers to its parent, with
// the clock that all processes of the machine share.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// The lease's times, and for how long each state of affairs is shown.
const (
	ttl    = 2 * time.Second
	margin = ttl / 4
	scene  = 1100 * time.Millisecond
)

// Options says what to show.
type Options struct {
	Out io.Writer
	// SVG is the file that the timeline is drawn in as well, "" for none.
	SVG string
}

// An OverlapError reports two owners at once.
type OverlapError struct {
	Names [2]string
	By    time.Duration
}

func (e *OverlapError) Error() string {
	return fmt.Sprintf("TWO OWNERS AT ONCE: %s and %s, for %s", e.Names[0], e.Names[1], short(e.By))
}

// Run shows it all. It takes seconds, and ends early when ctx does, with its cause.
// The error is an *OverlapError if the promise was broken.
func Run(ctx context.Context, o Options) error {
	if clock.Domain() == "" {
		return fmt.Errorf("the processes of this machine share no clock to measure by")
	}
	folder, err := os.MkdirTemp("", "owner-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	t, err := perform(ctx, o.Out, filepath.Join(folder, "lease"))
	if err != nil {
		return err
	}
	if err := t.text(o.Out); err != nil {
		return err
	}
	if o.SVG != "" {
		if err := os.WriteFile(o.SVG, t.svg(), 0o644); err != nil {
			return err
		}
	}
	if overlap := t.check().overlap; overlap != nil {
		return overlap
	}
	return nil
}
