package sdnotify

import (
	"strings"
	"unicode"
)

// maxMessage is the size of the largest message that is read: the limit of systemd.
const maxMessage = 4096

// maxStatus bounds the text of a status, in bytes: it is shown in one line.
const maxStatus = 256

// A Message is what a process has said. What it may say otherwise has no meaning here.
type Message struct {
	Ready, Stopping, Alive bool
	Failed                 bool    // WATCHDOG=trigger: it asks to be taken for one that hangs
	Status                 *string // nil: not mentioned
}

// parse reads a message. Lines that it does not know are left out, as sd_notify(3) asks
// for.
func parse(text string) (m Message) {
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == Ready:
			m.Ready = true
		case line == Stopping:
			m.Stopping = true
		case line == Alive:
			m.Alive = true
		case line == "WATCHDOG=trigger":
			m.Failed = true
		case strings.HasPrefix(line, status):
			s := Clean(strings.TrimPrefix(line, status))
			m.Status = &s
		}
	}
	return m
}

// Clean makes a line to show of what a process has written: short, valid UTF-8, and
// without characters that a terminal obeys.
func Clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) > maxStatus {
		s = strings.ToValidUTF8(s[:maxStatus-len("…")], "") + "…"
	}
	return strings.TrimSpace(s)
}
