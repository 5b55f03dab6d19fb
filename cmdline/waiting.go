package cmdline

import (
	"cmp"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner/internal/run"
)

// tellAfter is how long a wait may last before it is worth a line, and tellSoon the same
// where every wait is: a free lease is taken by then.
const (
	tellAfter = time.Second
	tellSoon  = 50 * time.Millisecond
)

// tellWait reports a wait on stderr: by default only a long one.
func tellWait(c *cli.Command, l *Lease, o *run.Options) {
	if c.Bool("quiet") {
		return
	}
	say := func(text string) { fmt.Fprintf(c.Root().ErrWriter, "%s: %s\n", c.Root().Name, clean(text)) }
	said := ""
	o.Waiting = func(over func() bool) {
		if text, holder := l.waiting(); !over() && (said == "" || holder != "" && holder != said) {
			said = cmp.Or(holder, "?")
			say(text)
		}
	}
	o.WaitingAfter = tellAfter
	if !c.Bool("verbose") {
		return
	}
	o.WaitingAfter = tellSoon
	o.Owning = func(waited time.Duration) {
		say(fmt.Sprintf("owns %s after %v", l.Name, waited.Round(time.Millisecond)))
	}
}

// waiting names the holder, and its instance, as far as they are known.
func (l *Lease) waiting() (text, holder string) {
	st, err := l.probe(l.Name)
	if err != nil || st.Record.InstanceID == "" {
		return "waiting for " + l.Name, ""
	}
	return fmt.Sprintf("waiting for %s, owned by %s", l.Name, identity(st.Record, time.Now())), st.Record.InstanceID
}
