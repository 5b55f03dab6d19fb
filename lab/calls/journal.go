package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// lineSize is what an entry takes in a journal. It is a power of two, so that no line lies
// on two pages: a process that is killed has written a line or has not.
const lineSize = 128

// What an entry says.
const (
	begun  = "begin" // a handler begins with a request
	ended  = "end"   // it has done what was asked for, and answers next
	lost   = "lost"  // an ownership was lost
	paused = "pause" // the process was not scheduled, from At to To
)

// An entry is a line of a worker's journal.
type entry struct {
	What     string
	ID       string // of the request; for lost, "-"
	Key      string // its Idempotency-Key, "-" without one
	Instance string // that the handler serves
	Epoch    uint64
	At, To   time.Duration // the clock that all processes share

	worker string // whose journal it is
	lease  string
}

// A journal is what a worker has done. Each entry is one write to the end of the file: a
// process that is killed does not lose what the kernel has taken.
type journal struct{ file *os.File }

func openJournal(path string) (journal, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return journal{f}, err
}

// put writes an entry. A worker whose journal is not whole proves nothing: it ends.
func (j journal) put(e entry) {
	if e.At == 0 {
		e.At = clock.Now()
	}
	line := fmt.Appendf(nil, "%s %s %s %s %d %d %d", e.What, dash(e.ID), dash(e.Key), dash(e.Instance), e.Epoch, e.At, e.To)
	if len(line) >= lineSize {
		fatal(fmt.Errorf("an entry of %d bytes: %s", len(line), line))
	}
	line = append(append(line, bytes.Repeat([]byte{' '}, lineSize-1-len(line))...), '\n')
	if _, err := j.file.Write(line); err != nil {
		fatal(err)
	}
}

// dash keeps the number of fields the same.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// readJournal reads what a worker has written.
func readJournal(path, worker, lease string) ([]entry, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil // killed before it could open it
	}
	if err != nil {
		return nil, err
	}
	var all []entry
	for line := range strings.Lines(string(b)) {
		e, err := parseEntry(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		e.worker, e.lease = worker, lease
		all = append(all, e)
	}
	return all, nil
}

func parseEntry(line string) (entry, error) {
	f := strings.Fields(line)
	if len(f) != 7 || !strings.HasSuffix(line, "\n") {
		return entry{}, fmt.Errorf("%d fields, want 7 and the end of a line", len(f))
	}
	epoch, err := strconv.ParseUint(f[4], 10, 64)
	if err != nil {
		return entry{}, err
	}
	at, err := strconv.ParseInt(f[5], 10, 64)
	if err != nil {
		return entry{}, err
	}
	to, err := strconv.ParseInt(f[6], 10, 64)
	return entry{What: f[0], ID: f[1], Key: f[2], Instance: f[3], Epoch: epoch, At: time.Duration(at), To: time.Duration(to)}, err
}
