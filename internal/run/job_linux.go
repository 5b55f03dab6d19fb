package run

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ownerlease/owner"
)

// A job is the command and all processes below it, wherever they have gone: see
// warden. They are in this process's own group, as they would be without it: what
// the terminal, a shell's job control or kill(1) does to a group reaches them
// directly.
type job struct {
	base   timebase
	path   string // the command's
	socket *os.File
	warden int            // its pid
	status chan startNews // of the start
	ended  chan ending    // how the command has ended; has room for it
	gone   chan struct{}  // closed when no process is left
	reaped chan struct{}  // closed when the warden has been

	probes              probes
	tellEnded, tellGone sync.Once

	mu     sync.Mutex
	others map[int]bool // this process's children of before, which are not the command's
}

// A startNews is the outcome of a start.
type startNews struct{ err error }

func startJob(cmd *exec.Cmd, signals chan<- os.Signal, own *owner.Owner, base timebase) (*job, error) {
	j := &job{
		base: base, path: cmd.Path, others: childrenNow(),
		ended: make(chan ending, 1), gone: make(chan struct{}), reaped: make(chan struct{}),
		status: make(chan startNews, 1),
	}
	adoptOrphans()
	if err := j.startWarden(cmd.Env); err != nil {
		return nil, fmt.Errorf("cannot start this program again through /proc/self/exe, to watch over COMMAND: %w", err)
	}
	go j.reap()
	go j.listen()
	signal.Notify(signals, forwardedSignals()...)
	if own.Check() != nil { // this process was stopped meanwhile
		j.close()
		return nil, lost(own, "lost the lease before COMMAND began")
	}
	j.order(order{LastMoment: base.lastMoment(own), Base: base}, startOrder{ownGroup(), inheritedIgnored(), cmd.Path, cmd.Args})
	if news := <-j.status; news.err != nil {
		j.close()
		return nil, &StartError{news.err}
	}
	return j, nil
}

// childrenNow are the children that this process has from the program that it has
// taken the place of, as with "exec" in a shell.
func childrenNow() map[int]bool {
	others := map[int]bool{}
	for _, pid := range children(os.Getpid()) {
		others[pid] = true
	}
	return others
}

func ownGroup() int {
	group, err := unix.Getpgid(0)
	if err != nil {
		return 0 // cannot be: one can always ask for oneself
	}
	return group
}

// startWarden starts this program again: this very one, also when its file has
// been replaced while it waited.
func (j *job) startWarden(env []string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	// The warden's end keeps its number: no other is known to be free in the command.
	defer unix.Close(pair[1])
	unix.CloseOnExec(pair[0])
	j.socket = os.NewFile(uintptr(pair[0]), "socket")
	j.warden, err = syscall.ForkExec("/proc/self/exe", []string{wardenName}, &syscall.ProcAttr{
		Env:   append(env, fmt.Sprintf("%s=%d", wardenEnv, pair[1])),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		_ = j.socket.Close()
	}
	return err
}

// order sends the warden an order. It blocks when the warden does not read, and it need
// not arrive: without a warden there is no command.
func (j *job) order(o order, start ...startOrder) {
	var text []byte
	if len(start) > 0 {
		text = start[0].bytes()
	}
	j.send(o, text)
}

// send is one write: renewals and probes come from goroutines of their own.
func (j *job) send(o order, text []byte) {
	o.Start = uint32(len(text))
	b, _ := binary.Append(nil, binary.NativeEndian, o)
	_, _ = j.socket.Write(append(b, text...))
}

// listen receives the warden's reports, until it has ended.
func (j *job) listen() {
	for {
		r, text, err := j.nextReport()
		if err != nil {
			// If it has been killed, the command ends as if that had been killed itself.
			j.started(startNews{})
			return
		}
		switch r.What {
		case reportStarted:
			j.started(startNews{})
		case reportFailed:
			j.started(startNews{&fs.PathError{Op: "exec", Path: j.path, Err: syscall.Errno(r.Value)}})
		case reportEnded:
			j.hasEnded(syscall.WaitStatus(r.Value))
		case reportAllGone:
			j.isGone() // first: with the end it is asked what is left
			j.hasEnded(syscall.WaitStatus(r.Value))
		case reportEmpty:
			j.isGone()
		case reportProbe:
			j.probes.answer(uint32(r.Value), text)
		}
	}
}

// nextReport is the next report, and what follows it.
func (j *job) nextReport() (r report, text []byte, err error) {
	if err = binary.Read(j.socket, binary.NativeEndian, &r); err == nil {
		text = make([]byte, r.Size)
		_, err = io.ReadFull(j.socket, text)
	}
	return r, text, err
}

// started passes the first news of the start on.
func (j *job) started(news startNews) {
	select {
	case j.status <- news:
	default:
	}
}

func (j *job) hasEnded(ws syscall.WaitStatus) {
	j.tellEnded.Do(func() { j.ended <- endingOf(ws) })
}

func (j *job) isGone() { j.tellGone.Do(func() { close(j.gone) }) }

// reap waits for the warden and, if that has been killed, for all that it was the
// parent of. Others are reaped, too: in a container, process 1 often reaps nothing.
func (j *job) reap() {
	killed := false
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		j.forget(pid)
		if pid == j.warden {
			close(j.reaped)
			if killed = ws.Signaled(); !killed {
				return // it leaves none, and the next warden is the next job's
			}
			j.hasEnded(syscall.WaitStatus(syscall.SIGKILL)) // by the kernel, together with it
		}
		if killed && len(j.below()) == 0 {
			j.isGone()
			return
		}
		if err != nil {
			return // no child is left
		}
	}
}

// forget takes a child that has been reaped from the others: its number can
// come again.
func (j *job) forget(pid int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.others, pid)
}

// below are this process's children but the others.
func (j *job) below() []int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(children(os.Getpid()), func(pid int) bool { return j.others[pid] })
}

// each calls visit with every process of the command that it finds.
func (j *job) each(visit func(proc)) {
	select {
	case <-j.reaped:
		j.mu.Lock()
		others := maps.Clone(j.others)
		j.mu.Unlock()
		descendants(os.Getpid(), others, visit)
	default:
		descendants(j.warden, nil, visit)
	}
}

// stoppingSignals stop this process as its group.
var stoppingSignals = []syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU}

// forward passes on what was sent to this process to those of the command that
// are in its group. What the terminal sends, they have got already.
func (j *job) forward(sig os.Signal, owns func() bool) {
	s := sig.(syscall.Signal)
	switch {
	case s == syscall.SIGPIPE: // caught so that it does not end this process
		return
	case s == syscall.SIGCONT && !owns():
		return // the command must not take another step: the loss is about to be delivered
	case s == syscall.SIGCONT:
		j.resume()
		return
	case fromTerminal(s):
		return
	}
	group := ownGroup()
	j.each(func(p proc) {
		if p.group == group {
			_ = p.signal(s)
		}
	})
}

// fromTerminal reports whether a signal can be one that the terminal has sent to
// this process's whole group. Go does not show whether it is, and a command that gets
// Ctrl-C twice often ends at once instead of in order.
func fromTerminal(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH:
		st, err := readStat(os.Getpid())
		return err == nil && st.foreground == st.group
	}
	return false
}

// terminate asks all of the command to end, those that are stopped as well.
func (j *job) terminate() {
	j.each(func(p proc) {
		_ = p.signal(syscall.SIGTERM)
		_ = p.signal(syscall.SIGCONT)
	})
}

// kill ends all of the command, and returns those that it may not end, or that it
// finds: a process can take its time to end.
func (j *job) kill() (refused, found []string) {
	select {
	case <-j.reaped:
	default:
		_ = syscall.Kill(j.warden, syscall.SIGCONT) // while stopped, it could not report the end
	}
	j.each(func(p proc) {
		if p.zombie {
			return
		}
		name := fmt.Sprintf("pid %d (uid %s)", p.pid, uidOf(p.pid))
		if err := p.signal(syscall.SIGKILL); err != nil && err != unix.ESRCH {
			refused = append(refused, name)
		}
		found = append(found, name)
	})
	return refused, found
}

func (j *job) empty() bool {
	select {
	case <-j.gone:
		return true
	default:
		return false
	}
}

// abandoned leaves out the probers, which are below the warden as the command is, and what
// is below them. One that has just been forked has the warden's name still.
func (j *job) abandoned() (left bool) {
	ofProbes := map[int]bool{}
	j.each(func(p proc) {
		switch name := nameOf(p.pid); {
		case p.zombie:
		case ofProbes[p.parent], name == proberName, name == wardenName:
			ofProbes[p.pid] = true
		default:
			left = true
		}
	})
	return left
}

func (j *job) extend(lastMoment time.Duration) {
	j.order(order{LastMoment: lastMoment, Base: j.base})
}

// close ends a warden that has no command.
func (j *job) close() {
	_ = j.socket.Close()
	<-j.reaped
}
