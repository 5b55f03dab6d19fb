//go:build unix

package main

import (
	"strings"
	"syscall"
	"testing"
)

// However and whenever the demo ends, it leaves nothing: wait returns when the
// last of its processes has closed the stderr that they all have.
func TestDemoEndsEarly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   string
		sig  syscall.Signal
		code int
	}{
		{"is stopped", syscall.SIGTERM, 128 + int(syscall.SIGTERM)},
		{"is stopped", syscall.SIGKILL, 128 + int(syscall.SIGKILL)},
		{"is killed", syscall.SIGINT, 128 + int(syscall.SIGINT)},
		{"three processes", syscall.SIGKILL, 128 + int(syscall.SIGKILL)},
	} {
		t.Run(c.at+", "+c.sig.String(), func(t *testing.T) {
			t.Parallel()
			p, temp := startDemo(t)
			for !strings.Contains(p.line(), c.at) {
			}
			p.signal(c.sig)
			if _, code := p.wait(); code != c.code || p.stderr.Len() > 0 {
				t.Errorf("exit %d, want %d; %s", code, c.code, &p.stderr)
			}
			mustBeEmpty(t, temp)
		})
	}
}

func TestDemoEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	p, temp := startDemo(t)
	for !strings.Contains(p.line(), "is killed") {
	}
	_ = p.out.Close()
	_ = p.cmd.Wait()
	if p.cmd.ProcessState.Success() || p.stderr.Len() > 0 {
		t.Errorf("%v; %s", p.cmd.ProcessState, &p.stderr)
	}
	mustBeEmpty(t, temp)
}
