// Package witness lets a store know that an owner has died, where a process on the
// owner's machine has seen it: not by a missing sign of life, but because the kernel
// reports the end of that process. A store writes Self into its record, and each instance
// that follows the lease calls Watch with what the record has: where the owner was on
// another machine, or cannot be watched, nothing comes of it. Packages etcdstore and pgstore
// do that.
//
// What a store does about a death can be applied late, when another instance owns: it must
// name the ownership that it ends, and end no other.
//
// What a dead process has started can outlive it, as with a lease file. A program whose
// work is in other processes should write no Self. Nor should one on a virtual machine that
// is resumed several times from one snapshot: the copies have the same boot, and a process
// that was started before the snapshot can live in one copy and die in another.
package witness

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/ownerlease/owner/internal/clock"
	"github.com/ownerlease/owner/internal/hint"
)

// Self names this process for witnesses: the boot of the machine, the namespaces, the pid,
// and when it was started, so that no other process ever has the same name. It is empty
// where the system cannot tell all of these; it can on Linux.
func Self() string { return self() }

var self = sync.OnceValue(func() string {
	pid := os.Getpid()
	start := startOf(pid)
	if start == "" || machine() == "" {
		return ""
	}
	return fmt.Sprintf("%s pid %d start %s", machine(), pid, start)
})

// machine names what a pid and a start mean something in, "" where that is not known.
func machine() string {
	domain, namespace := clock.Domain(), hint.PIDNamespace()
	if domain == "" || namespace == "" {
		return ""
	}
	return domain + " " + namespace
}

// Watch calls died once, from a goroutine of its own, when the process with this name has
// ended. It reports whether it watches: not if the process is this one, is on another
// machine or in another namespace, had ended before, or cannot be watched. died must not
// block. stop ends the watch; it is never nil, and may be called more than once.
//
// died is no guess: the process was found alive, with the start that the name has, after
// the kernel was asked to report its end. That no process has the name any more is no
// reason to call it: on a copy of the machine, those that were started later are missing.
func Watch(name string, died func()) (stop func(), watches bool) {
	nothing := func() {}
	pid, start, ok := parse(name)
	if !ok || name == Self() {
		return nothing, false
	}
	w := &watch{died: died}
	end, err := hint.Process(pid, w.tell)
	if err != nil {
		return nothing, false
	}
	// Asked after the watch has begun: a process that has this start now has had this pid
	// since before.
	if startOf(pid) != start || !w.arm() {
		end()
		return nothing, false
	}
	return sync.OnceFunc(end), true
}

// parse returns the pid and the start of a process of this machine and namespace.
func parse(name string) (pid int, start string, ok bool) {
	rest, ok := strings.CutPrefix(name, machine()+" pid ")
	if !ok || machine() == "" {
		return 0, "", false
	}
	n, err := fmt.Sscanf(rest, "%d start %s", &pid, &start)
	return pid, start, err == nil && n == 2 && pid > 0
}

// A watch passes the end on if it comes after the process was found alive.
type watch struct {
	mu    sync.Mutex
	armed bool
	ended bool
	died  func()
}

// arm reports whether the process had not ended before.
func (w *watch) arm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = !w.ended
	return w.armed
}

func (w *watch) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.armed {
		w.died()
	}
}
