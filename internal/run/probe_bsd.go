//go:build unix && !linux

package run

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// probe runs a probe, and returns why it has failed. Its prober is this process's child,
// and ends with it; reap takes its exit.
func (j *job) probe(ctx context.Context, p probeOrder) error {
	self, err := executable()
	if err != nil {
		return err
	}
	alive, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer hold.Close()
	defer alive.Close()
	result, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer result.Close()
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{proberName, p.path}, p.args...), Dir: p.dir,
		Env:         append(j.env[:len(j.env):len(j.env)], probeEnv+"="+p.limit.String()),
		Stdin:       alive,
		Stdout:      in,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = hold.Close() })()
	text, _ := io.ReadAll(io.LimitReader(result, 16*mostOutput))
	r := probeResult{Failed: errProbeGone.Error()}
	_ = json.Unmarshal(text, &r)
	return r.err()
}
