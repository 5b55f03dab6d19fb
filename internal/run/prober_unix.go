//go:build unix

package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// proberName is what a prober is called in a list of processes.
const proberName = "owner-prober"

// beProber makes this process the parent of a probe: it runs it, bounds its time, ends all
// that it has started, and prints its result.
func beProber(limit string) {
	_ = os.Unsetenv(probeEnv)
	d, err := time.ParseDuration(limit)
	if err != nil || len(os.Args) < 3 {
		return // not started as one
	}
	adoptOrphans()
	_ = json.NewEncoder(os.Stdout).Encode(runProbe(d, os.Args[1], os.Args[2:]))
	os.Exit(0)
}

func runProbe(limit time.Duration, path string, args []string) probeResult {
	// What ends COMMAND ends its probes: TERM reaches all that is left of it.
	ctx, stop := signal.NotifyContext(context.Background(), endingSignals()...)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	whenAlone(cancel)
	var out tail
	cmd := exec.CommandContext(ctx, path)
	cmd.Args, cmd.Stdout, cmd.Stderr = args, &out, &out
	cmd.Cancel = func() error { endProbe(cmd.Process.Pid); return nil }
	cmd.WaitDelay = 100 * time.Millisecond // for what it has left behind, with its output open
	ownGroupFor(cmd)
	err := cmd.Run()
	if cmd.Process != nil {
		endProbe(cmd.Process.Pid)
	}
	r := probeResult{Output: strings.TrimSpace(string(out.text))}
	switch {
	case cmd.ProcessState == nil:
		r.Failed = err.Error()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.Failed = fmt.Sprintf("ended after %v without an answer", limit)
	case ctx.Err() != nil:
		r.Failed = errProbeGone.Error()
	default:
		e := endingOf(cmd.ProcessState.Sys().(syscall.WaitStatus))
		r.Code, r.Signal = e.code, int(e.signal)
	}
	return r
}

// beProberIfRequested makes this process a prober, if it was started as one, and then does
// not return.
func beProberIfRequested() {
	if limit := os.Getenv(probeEnv); limit != "" {
		beProber(limit)
	}
}
