package run

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A proc is a process below another one, as it was found. Its number can be
// another's by the time it is used: handle, where there is one, stays with it.
type proc struct {
	pid, parent, group int
	zombie             bool
	handle             int // a pidfd; -1 where the kernel gives none
}

// descendants calls visit with every process below root, parents first. Those in
// spared are not visited, and neither is what is below them. A process that is forked
// meanwhile can be missed: call it until none is left.
//
// root must not be reaped meanwhile, so that its number remains its own.
func descendants(root int, spared map[int]bool, visit func(proc)) {
	found := []proc{{pid: root, handle: -1}}
	for i := 0; i < len(found); i++ {
		for _, pid := range children(found[i].pid) {
			if spared[pid] {
				continue
			}
			if p, ok := openProc(pid, found[i].pid); ok {
				found = append(found, p)
			}
		}
		if i == 0 {
			continue
		}
		// Its number may have been given to another process while its children were
		// searched: those are not ours then.
		if !found[i].stillThere() {
			found = withoutChildrenOf(found, i)
		} else {
			visit(found[i])
		}
		found[i].close()
	}
}

func withoutChildrenOf(found []proc, parent int) []proc {
	kept := found[:parent+1]
	for _, p := range found[parent+1:] {
		if p.parent == found[parent].pid {
			p.close()
		} else {
			kept = append(kept, p)
		}
	}
	return kept
}

// openProc returns the process with this number, if it is a child of parent.
func openProc(pid, parent int) (proc, bool) {
	handle, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return proc{}, false
	}
	if err != nil {
		handle = -1
	}
	p := proc{pid: pid, parent: parent, group: -1, handle: handle}
	// Where /proc hides the processes of other users, the parent's word must do.
	if st, err := readStat(pid); err == nil {
		p.parent, p.group, p.zombie = st.parent, st.group, st.zombie
	}
	if p.parent != parent || !p.stillThere() {
		p.close()
		return proc{}, false
	}
	return p, true
}

func (p proc) close() {
	if p.handle >= 0 {
		_ = unix.Close(p.handle)
	}
}

// stillThere reports whether the process has not been reaped.
func (p proc) stillThere() bool { return p.signal(0) != unix.ESRCH }

func (p proc) signal(sig syscall.Signal) error {
	if p.handle < 0 {
		return unix.Kill(p.pid, sig)
	}
	return unix.PidfdSendSignal(p.handle, sig, nil, 0)
}

// children are the numbers of a process's children. A child that ends meanwhile
// can hide another.
func children(pid int) []int {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var pids []int
	for _, task := range tasks {
		text, err := os.ReadFile(dir + "/" + task.Name() + "/children")
		if errors.Is(err, os.ErrNotExist) && !listsChildren() {
			return childrenByParent(pid)
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// listsChildren reports whether the kernel lists a task's children (it can have
// been built without).
func listsChildren() bool {
	_, err := os.Stat("/proc/thread-self/children")
	return err == nil
}

// childrenByParent asks all processes for their parent.
func childrenByParent(parent int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil && st.parent == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A stat is a process's entry in /proc.
type stat struct {
	parent, group int
	foreground    int // the group that has its session's terminal; -1 where there is none
	zombie        bool
	stopped       bool // by a signal, not by a debugger
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

var errStat = errors.New("/proc/PID/stat is not as expected")

func parseStat(text []byte) (stat, error) {
	// The name, in parentheses, can contain spaces and parentheses.
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) < 6 {
		return stat{}, errStat
	}
	var numbers [3]int
	for i, at := range [...]int{1, 2, 5} {
		n, err := strconv.Atoi(string(f[at]))
		if err != nil {
			return stat{}, errStat
		}
		numbers[i] = n
	}
	return stat{numbers[0], numbers[1], numbers[2], string(f[0]) == "Z", string(f[0]) == "T"}, nil
}

// nameOf is what a process was started as, "" where that is not to be known.
func nameOf(pid int) string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	name, _, _ := strings.Cut(string(text), "\x00")
	return name
}

// uidOf is the user that a process runs as, for messages.
func uidOf(pid int) (uid string) {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			return strings.Fields(rest)[0]
		}
	}
	return "unknown"
}
