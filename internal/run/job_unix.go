//go:build unix

package run

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ownerlease/owner"
)

// A job is the command's process group: the command, and all that it starts and
// that does not leave the group.
type job struct {
	group    int // the command's pid, too
	base     timebase
	warden   *warden
	terminal terminal
	ended    chan int // the command's exit code; has room for it
}

// BeHelper makes this process a helper of another, if Run has started it as one,
// and then does not return. It must come first in main.
func BeHelper() {
	if os.Getenv(wardenEnv) != "" {
		beWarden()
	}
	if how := os.Getenv(startEnv); how != "" {
		beStarter(how)
	}
}

func startJob(cmd *exec.Cmd, signals chan<- os.Signal, own *owner.Owner, base timebase) (*job, error) {
	w, err := startWarden()
	if err != nil {
		return nil, err
	}
	j := &job{base: base, warden: w, terminal: openTerminal(), ended: make(chan int, 1)}
	signal.Notify(signals, forwardedSignals()...)
	started := make(chan starting)
	go j.live(cmd, started)
	at := <-started
	if at.err != nil {
		j.close()
		return nil, &StartError{at.err}
	}
	j.extend(base.lastMoment(own))
	// Not by SysProcAttr.Foreground: the command would have to ignore SIGTTOU.
	if j.terminal.interactive() {
		j.terminal.give(j.group)
	}
	if own.Check() != nil { // this process was stopped meanwhile
		at.gate.close()
		err = lost(own, "lost the lease before COMMAND began")
	} else if e := at.gate.open(); e != nil {
		err = &StartError{e}
	}
	if err != nil {
		<-j.ended // the starter's end
		j.close()
		return nil, err
	}
	return j, nil
}

// A starting is how far live has got with the command.
type starting struct {
	gate *gate
	err  error
}

// live starts the command and reaps it. The kernel ties Pdeathsig to the thread
// that forks: this goroutine keeps its thread for as long as the command lives.
func (j *job) live(cmd *exec.Cmd, started chan<- starting) {
	runtime.LockOSThread()
	adoptOrphans()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	g, err := startGated(cmd)
	if err == nil {
		j.group = cmd.Process.Pid
	}
	started <- starting{g, err}
	j.reap()
}

// reap waits for every child: the command, the warden, and what the command
// leaves behind, as a group is not empty before its last zombie is gone.
func (j *job) reap() {
	command, warden := j.group, j.warden.pid // 0 once reaped: a pid can come again
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, unix.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return // no child is left
		case pid == command && ws.Stopped():
			j.stopped(ws.StopSignal())
		case ws.Stopped():
			// Somebody else's affair.
		case pid == command:
			command = 0
			if j.terminal.group() == j.group {
				j.terminal.take()
			}
			j.ended <- exitCode(ws)
		case pid == warden:
			warden = 0
			close(j.warden.reaped)
		}
	}
}

func exitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// The signals that end the wait for the lease. What is ignored, as HUP is under
// nohup, stays ignored, for the command as well.
func endingSignals() []os.Signal {
	return heeded(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
}

// forwardedSignals are all that can be caught but SIGCHLD and SIGURG, which the
// Go runtime sends to itself, and SIGTTIN and SIGTTOU, which are about this
// process's own use of the terminal: it keeps being stopped by them.
func forwardedSignals() []os.Signal {
	var sigs []os.Signal
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		switch sig {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGTTIN, syscall.SIGTTOU:
		default:
			sigs = append(sigs, sig)
		}
	}
	return heeded(sigs...)
}

func heeded(all ...os.Signal) []os.Signal {
	var sigs []os.Signal
	for _, sig := range all {
		if !signal.Ignored(sig) {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

func (j *job) forward(sig os.Signal, owns func() bool) {
	switch sig {
	case syscall.SIGPIPE: // caught so that it does not end this process
	case syscall.SIGCONT:
		j.resume(owns)
	default:
		j.signal(sig.(syscall.Signal))
	}
}

// stopped does what job control expects of a process whose child was stopped.
func (j *job) stopped(by syscall.Signal) {
	switch {
	case (by == syscall.SIGTTIN || by == syscall.SIGTTOU) && j.terminal.ours():
		j.terminal.give(j.group) // the command needs it now
		j.signal(syscall.SIGCONT)
	case by == syscall.SIGSTOP && j.terminal.group() != j.group:
		// Somebody has stopped the command on purpose. It goes on owning.
	default:
		j.suspend()
	}
}

// suspend stops this process and those in its group, as the shell expects when
// the command was stopped from the terminal. The lease is then not renewed: if
// the stop outlasts it, the command is killed.
func (j *job) suspend() {
	// Not SIGTSTP: once it has been caught, the Go runtime does not give it its
	// default action back.
	_ = syscall.Kill(0, syscall.SIGTTIN)
	// The kernel does not stop a group that no shell watches over. Then the command
	// goes on at once.
	time.AfterFunc(100*time.Millisecond, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGCONT) })
}

// resume is the other half of suspend: the shell has continued its job.
func (j *job) resume(owns func() bool) {
	if !owns() {
		return // the command must not take another step: the loss is about to be delivered
	}
	if j.terminal.interactive() {
		j.terminal.give(j.group)
	}
	j.signal(syscall.SIGCONT)
}

func (j *job) terminate() {
	j.signal(syscall.SIGTERM)
	j.signal(syscall.SIGCONT) // whoever is stopped could not end
}

func (j *job) kill() { j.signal(syscall.SIGKILL) }

// signal cannot fail but for a group that is gone, or is another user's.
func (j *job) signal(sig syscall.Signal) { _ = syscall.Kill(-j.group, sig) }

func (j *job) empty() bool { return syscall.Kill(-j.group, 0) != nil }

func (j *job) extend(lastMoment time.Duration) {
	j.warden.tell(news{int64(j.group), lastMoment, j.base})
}

func (j *job) close() {
	j.warden.end()
	j.terminal.close()
}
