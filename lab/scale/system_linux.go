package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpu returns the CPU time that a process has used, of all its threads: from its
// CPU-time clock (clock_getcpuclockid(3)), as /proc counts in hundredths of a second.
func cpu(pid int) (time.Duration, error) {
	const perProcess = 2 // CPUCLOCK_SCHED, of a whole process
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess), &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// sizes returns a process's memory in RAM, in bytes, and its open descriptors.
func sizes(pid int) (rss, fds float64, err error) {
	rss, err = field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	if err != nil {
		return 0, 0, err
	}
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return rss, float64(len(names)), err
}

// share returns a process's memory, with shared memory divided among the processes that
// share it.
func share(pid int) (float64, error) {
	return field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
}

// field returns the bytes that a line of a file in /proc gives in kB.
func field(path, name string) (float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var kb float64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			_, err := fmt.Sscanf(rest, "%g kB", &kb)
			return 1024 * kb, err
		}
	}
	return 0, errors.New(path + " has no " + name)
}

// raiseDescriptors raises the limit of open files to need, as far as it can be
// raised, and returns it. Children inherit it.
func raiseDescriptors(need uint64) uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	if limit.Cur < need {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: need, Max: max(need, limit.Max)})
		_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	return limit.Cur
}

// hinted is how many of a user's processes can have hints.
func hinted() int {
	limit := math.MaxInt
	if text, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances"); err == nil {
		_, _ = fmt.Sscan(string(text), &limit)
	}
	return limit
}
