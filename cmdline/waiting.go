package cmdline

import (
	"cmp"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/ownerlease/owner"
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
	said, self := "", run.Mirror{}
	o.Waiting = func(over func() bool) {
		text, rec := l.waiting()
		holder := rec.InstanceID
		if !over() && !self.Shows(rec) && (said == "" || holder != "" && holder != said) {
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

// waiting names the holder, as far as it is known.
func (l *Lease) waiting() (text string, holder owner.Record) {
	st, err := l.probe(l.Name)
	if err != nil || st.Record.InstanceID == "" {
		return "waiting for " + l.Name, owner.Record{}
	}
	return fmt.Sprintf("waiting for %s, owned by %s", l.Name, identity(st.Record, time.Now())), st.Record
}
