//go:build !unix && !windows

package start

import (
	"os"
	"os/exec"
	"time"
)

const noWait = 0

type system struct {
	pid     int
	process *os.Process
}

func detach(*exec.Cmd) {}

func newChild(p *os.Process, l *log) *child {
	return &child{since: time.Now(), log: l, system: system{p.Pid, p}}
}

// poll cannot tell: Timeout ends the wait.
func (c *child) poll() bool { return false }

func (c *child) tell(bool) { _ = c.process.Kill() }

func (c *child) leave() { _ = c.process.Release() }

func reapEnded() {}

func exists(int) bool { return false }

func keepDescriptors() (restore func()) { return func() {} }

func adviseSystem(error) string { return "" }
