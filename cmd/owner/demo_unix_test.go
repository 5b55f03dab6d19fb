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
			for !strings.Contains(p.Line(), c.at) {
			}
			p.Signal(c.sig)
			if _, code := p.Wait(); code != c.code || p.Stderr.Len() > 0 {
				t.Errorf("exit %d, want %d; %s", code, c.code, &p.Stderr)
			}
			mustBeEmpty(t, temp)
		})
	}
}

func TestDemoEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	p, temp := startDemo(t)
	for !strings.Contains(p.Line(), "is killed") {
	}
	_ = p.Out.Close()
	_ = p.Cmd.Wait()
	if p.Cmd.ProcessState.Success() || p.Stderr.Len() > 0 {
		t.Errorf("%v; %s", p.Cmd.ProcessState, &p.Stderr)
	}
	mustBeEmpty(t, temp)
}
