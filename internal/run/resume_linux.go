package run

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// The main goroutine, which passes signals on, stays on the main thread: the kernel
// gives that one what is sent to the process. So from the moment at which Ctrl-Z has
// been sent to this process, it cannot begin another system call before it stops. On
// another thread it could, for as long as the main one waits for a CPU.
func init() { runtime.LockOSThread() }

// resume passes SIGCONT on. A shell's "fg" has sent it to the whole group, "kill -CONT"
// to this process alone, and the two cannot be distinguished. Processes of the command
// that have got it must not get it again: a late one, after the next Ctrl-Z has stopped
// them, would let them run while this process, which renews the lease, is stopped. So it
// is sent only to those that need it.
func (j *job) resume() {
	group := ownGroup()
	j.each(func(p proc) {
		if p.group == group && heedsResume(p.pid) {
			_ = p.signal(syscall.SIGCONT)
		}
	})
}

// heedsResume reports whether SIGCONT makes a difference to a process: because it is
// stopped, or has a handler, or blocks the signal to wait for it.
func heedsResume(pid int) bool {
	st, err := readStat(pid)
	return err == nil && st.stopped || catchesOrBlocks(pid, syscall.SIGCONT)
}

// catchesOrBlocks reports so of a process's first thread.
func catchesOrBlocks(pid int, sig syscall.Signal) bool {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range strings.Lines(string(text)) {
		name, bits, _ := strings.Cut(line, ":")
		if name != "SigCgt" && name != "SigBlk" {
			continue
		}
		if set, err := strconv.ParseUint(strings.TrimSpace(bits), 16, 64); err == nil && set&(1<<(sig-1)) != 0 {
			return true
		}
	}
	return false
}
