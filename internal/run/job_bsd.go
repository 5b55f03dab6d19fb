//go:build unix && !linux

package run

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
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
	env      []string // the command's
	warden   *warden
	terminal terminal
	ended    chan ending // how the command has ended; has room for it
}

// RunHelperIfRequested makes this process a helper of another, if Run has started it as one,
// and then does not return. It must come first in main.
func RunHelperIfRequested() {
	if os.Getenv(wardenEnv) != "" {
		beWarden()
	}
	if how := os.Getenv(startEnv); how != "" {
		beStarter(how)
	}
	beProberIfRequested()
}

func startJob(cmd *exec.Cmd, signals chan<- os.Signal, own *owner.Owner, base timebase) (*job, error) {
	w, err := startWarden()
	if err != nil {
		return nil, err
	}
	j := &job{base: base, env: cmd.Env, warden: w, terminal: openTerminal(), ended: make(chan ending, 1)}
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

// A starting is the state of the command's start in live.
type starting struct {
	gate *gate
	err  error
}

// live starts the command and reaps it.
func (j *job) live(cmd *exec.Cmd, started chan<- starting) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
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
	for command != 0 || warden != 0 {        // the next job's are its own
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, unix.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return // no child is left
		case pid == command && ws.Stopped():
			j.stopped(ws.StopSignal())
		case ws.Stopped():
			// Not this process's concern.
		case pid == command:
			command = 0
			if j.terminal.group() == j.group {
				j.terminal.take()
				j.interrupted(ws)
			}
			j.ended <- endingOf(ws)
		case pid == warden:
			warden = 0
			close(j.warden.reaped)
		}
	}
}

// stoppingSignals concern this process's own use of the terminal. The one of Ctrl-Z is
// passed on.
var stoppingSignals = []syscall.Signal{syscall.SIGTTIN, syscall.SIGTTOU}

func (j *job) forward(sig os.Signal, owns func() bool) {
	switch sig {
	case syscall.SIGPIPE: // caught so that it does not end this process
	case syscall.SIGCONT:
		j.resume(owns)
	default:
		_ = j.signal(sig.(syscall.Signal))
	}
}

// stopped does what job control expects of a process whose child was stopped.
func (j *job) stopped(by syscall.Signal) {
	switch {
	case (by == syscall.SIGTTIN || by == syscall.SIGTTOU) && j.terminal.ours():
		j.terminal.give(j.group) // the command needs it now
		_ = j.signal(syscall.SIGCONT)
	case by == syscall.SIGSTOP && j.terminal.group() != j.group:
		// The command was stopped on purpose. The ownership continues.
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
	// continues at once.
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
	_ = j.signal(syscall.SIGCONT)
}

func (j *job) terminate() {
	_ = j.signal(syscall.SIGTERM)
	_ = j.signal(syscall.SIGCONT) // a stopped process could not end
}

// kill ends all of the group, and returns what it may not end, or what is left.
// If it may end some of them, the kernel does not say which.
func (j *job) kill() (refused, found []string) {
	group := []string{fmt.Sprintf("process group %d", j.group)}
	switch j.signal(syscall.SIGKILL) {
	case syscall.ESRCH:
		return nil, nil
	case nil:
		return nil, group
	}
	return group, group
}

func (j *job) signal(sig syscall.Signal) error { return syscall.Kill(-j.group, sig) }

// empty reports whether the group is gone. One that this process may not send
// signals to is not.
func (j *job) empty() bool { return j.signal(0) == syscall.ESRCH }

// abandoned: a check of the command is in a session of its own.
func (j *job) abandoned() bool { return !j.empty() }

func (j *job) extend(lastMoment time.Duration) {
	j.warden.tell(news{int64(j.group), lastMoment, j.base})
}

func (j *job) close() {
	j.warden.end()
	j.terminal.close()
}

// interrupted sends Ctrl-C on to the processes that share the terminal's job with this
// one, as it has ended the command in another group: a shell checks whether it has got
// the signal itself.
func (j *job) interrupted(ws syscall.WaitStatus) {
	if ws.Signaled() && ws.Signal() == syscall.SIGINT {
		_ = syscall.Kill(0, syscall.SIGINT) // this process catches it
	}
}
