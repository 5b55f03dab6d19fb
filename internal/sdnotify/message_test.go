package sdnotify

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	for in, want := range map[string]Message{
		"":                               {},
		"READY=1":                        {Ready: true},
		"READY=1\n":                      {Ready: true},
		"READY=1\nSTATUS=up\nMAINPID=1":  {Ready: true, Status: text("up")},
		"STOPPING=1\nWATCHDOG=1":         {Stopping: true, Alive: true},
		"WATCHDOG=trigger":               {Failed: true},
		"STATUS=":                        {Status: text("")},
		"STATUS=a\nSTATUS=b=c":           {Status: text("b=c")},
		"STATUS=\x1b[2Ja\x00b\u202e\x9b": {Status: text("[2Jab\ufffd")},
		// What only looks like a message.
		"READY=0": {}, "READY=11": {}, "ready=1": {}, " READY=1": {}, "READY=1\r": {}, "READY=1\x00": {}, "X\x00READY=1": {},
		"READY": {}, "=1": {}, "WATCHDOG=1 ": {}, "RELOADING=1\nFDSTORE=1\nBARRIER=1\n\n\n": {},
	} {
		got := parse(in)
		if (got.Status == nil) != (want.Status == nil) || got.Status != nil && *got.Status != *want.Status {
			t.Errorf("%q: the status is %v", in, got.Status)
		}
		got.Status, want.Status = nil, nil
		if got != want {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func TestCleanIsShort(t *testing.T) {
	t.Parallel()
	for _, s := range []string{strings.Repeat("x", 5000), strings.Repeat("日", 200)} {
		if got := Clean(s); len(got) > maxStatus || len(got) < maxStatus-8 || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
}
