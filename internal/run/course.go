package run

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
)

// The pause before the command is started again doubles with each failure in a row. A run
// of steadyAfter ends the row.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 30 * time.Second
	steadyAfter  = 10 * time.Second
)

// A GaveUpError says that the command has failed too often in a row. Err is how it has ended
// last, nil if by its own exit code.
type GaveUpError struct {
	Failures int
	what     string
	Err      error
}

func (e *GaveUpError) Error() string {
	return fmt.Sprintf("COMMAND %s: it has failed %d times in a row, and is not started again", e.what, e.Failures)
}
func (e *GaveUpError) Unwrap() error { return e.Err }

// A course is all runs of the command under one ownership. One begins only when no process
// of the one before is left.
type course struct {
	o       *Options
	path    string
	own     *owner.Owner
	signals chan os.Signal
	renewed <-chan struct{}
	tending *tending
	hangsUp bool // HUP means that the terminal has gone, which had to be asked for before it has
}

// An outcome is how one run has ended.
type outcome struct {
	code  int
	err   error
	asked bool // by a signal to this process, or as another instance asks for the lease
}

func (c *course) run() (int, error) {
	failed := 0
	for first := true; ; first = false {
		began := time.Now()
		end := c.once()
		if time.Since(began) >= steadyAfter {
			failed = 0
		}
		if !c.mayRestart(end, first) {
			c.o.service.stopping("COMMAND has ended")
			return end.code, end.err
		}
		if failed++; failed > c.o.Restart {
			c.o.service.stopping("COMMAND has failed too often")
			return end.code, &GaveUpError{failed, end.String(), end.err}
		}
		pause := c.pauseAfter(failed)
		c.tending.restarting(end)
		c.o.warnSoon(fmt.Errorf("COMMAND %s: starting it again in %v, as the restart %d of %d", end, pause.Round(time.Millisecond), failed, c.o.Restart))
		err := c.wait(pause)
		if errors.Is(err, owner.ErrHandover) {
			c.o.service.stopping("stepping down")
			return end.code, end.err
		}
		if err != nil {
			c.o.service.stopping("ended before COMMAND was started again")
			return end.code, err
		}
	}
}

// once runs the command once.
func (c *course) once() outcome {
	cmd := &exec.Cmd{
		Path: c.path, Args: c.o.Command, Env: c.o.environ(c.own, c.tending.environ()...),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	base := timebase(c.o.CountsSuspend)
	c.tending.starting()
	j, err := startJob(cmd, c.signals, c.own, base)
	if err != nil {
		c.tending.ended()
		return outcome{code: codeOfStart, err: err}
	}
	defer j.close()
	over := make(chan struct{})
	defer close(over)
	go tellExpiry(j, c.own, base, c.renewed, over)
	giveUp := c.tending.begin(j)
	defer c.tending.ended()
	return c.supervise(j, giveUp)
}

// codeOfStart stands for a start that has failed, where only the error counts.
const codeOfStart = 0

// supervise watches over the command, and returns how it ended.
func (c *course) supervise(j *job, giveUp <-chan error) outcome {
	s := supervisor{job: j, own: c.own, grace: c.o.Grace, warn: c.o.Warn, giveUp: giveUp, toEnd: c.tending.toldToEnd}
	end := s.watch(c.signals)
	// Check rather than wait: after a pause of this process the command may have ended by
	// the loss before the loss has been delivered.
	switch {
	case c.own.Check() != nil:
		return outcome{code: end.code, err: s.loss()}
	case s.stepsDown:
		return steppedDown(end)
	case s.gaveUp != nil:
		return outcome{code: end.code, err: s.gaveUp, asked: s.asked(end)}
	case end.signal != 0:
		return outcome{code: end.code, err: &SignalError{end.signal}, asked: s.asked(end)}
	}
	return outcome{code: end.code, asked: s.asked(end)}
}

// mayRestart reports whether the run has failed, and by itself. A command that could not
// be started at first will not be started later either.
func (c *course) mayRestart(end outcome, first bool) bool {
	var start *StartError
	switch {
	case c.o.Restart <= 0 || end.asked || c.own.Check() != nil:
		return false
	case errors.As(end.err, &start):
		return !first
	}
	return end.code != 0 || end.err != nil
}

// String continues a sentence that begins with "COMMAND".
func (e outcome) String() string {
	var (
		killed *SignalError
		start  *StartError
		late   *NotReadyError
	)
	switch {
	case errors.As(e.err, &start):
		return "cannot be run: " + start.Err.Error()
	case errors.As(e.err, &late):
		return fmt.Sprintf("was not ready after %v", late.After)
	case errors.As(e.err, &killed):
		return "was ended by a signal: " + killed.Signal.String()
	}
	return fmt.Sprintf("ended with exit code %d", e.code)
}

// pauseAfter varies by half, as what has failed may be shared by many.
func (c *course) pauseAfter(failed int) time.Duration {
	d := longestPause
	if failed < 16 {
		d = min(firstPause<<(failed-1), longestPause)
	}
	return d/2 + rand.N(d/2+1)
}

// wait returns why the command is not to be started again.
func (c *course) wait(pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-c.own.Lost():
			return lost(c.own, "lost the lease, while COMMAND was to be started again")
		case <-c.own.HandoverRequested():
			return owner.ErrHandover
		case sig := <-c.signals:
			// Without a terminal, HUP asks COMMAND to read its configuration again. It will,
			// as it is started again.
			if s := sig.(syscall.Signal); isEnding(s) && (s != syscall.SIGHUP || c.hangsUp) {
				return &SignalError{s}
			}
		}
	}
}

func isEnding(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
		return true
	}
	return false
}

// warnSoon does not wait until the warning has been read: a stopped terminal must not keep
// the lease from being watched.
func (o *Options) warnSoon(err error) {
	if o.Warn != nil {
		go o.Warn(err)
	}
}
