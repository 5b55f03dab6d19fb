//go:build unix && !linux

package pgtest

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// childrenOf returns a process's children.
func childrenOf(parent int) (pids []int) {
	out, _ := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		if n, _ := fmt.Sscan(line, &pid, &ppid); n == 2 && ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone reports whether a process has ended.
func gone(pid int) bool { return syscall.Kill(pid, 0) != nil }
