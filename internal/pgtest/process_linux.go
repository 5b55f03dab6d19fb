package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// childrenOf returns a process's children. Each backend is in a session of its own, so
// that no process group has them all.
func childrenOf(parent int) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range all {
		if _, ppid := stat(file); ppid == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// gone reports whether a process has ended; its parent may not have asked for its status.
func gone(pid int) bool {
	state, _ := stat(fmt.Sprintf("/proc/%d/stat", pid))
	return state == "" || state == "Z" || state == "X"
}

// stat reads a process's state and its parent, "" of one that does not exist.
func stat(file string) (state, ppid string) {
	b, _ := os.ReadFile(file)
	// The name, in parentheses, can have any characters.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 2 {
		return "", ""
	}
	return fields[0], fields[1]
}
