//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// onUnix: a signal can stop a process, and a file that is open can be removed.
const onUnix = true

// stop stops the child, and returns when it has stopped.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop a process: %w", err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("stop a process: status %v, %w", status, err)
	}
	return nil
}

func (c *child) resume() error { return c.cmd.Process.Signal(syscall.SIGCONT) }
