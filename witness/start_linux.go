package witness

import (
	"bytes"
	"fmt"
	"os"
)

// startOf returns when a process was started, in ticks since the boot, "" of one that does
// not exist, or has ended and was not waited for yet.
func startOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name, in parentheses, can have any characters.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const state, start = 0, 19
	if len(f) <= start || string(f[state]) == "Z" || string(f[state]) == "X" {
		return ""
	}
	return string(f[start])
}
