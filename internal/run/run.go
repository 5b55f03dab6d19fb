// Package run runs a command for as long as this process owns a lease, and no
// longer. It belongs into a process of its own: it takes the signals, and on Unix
// it reaps every child.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
)

// Options says what to run, and under which lease.
type Options struct {
	// Lease is what the lease is called in COMMAND's environment.
	Lease string
	// Config is the lease. Its SafetyMargin, OnTransition and Logger are set by Run.
	Config owner.Config
	// CountsSuspend says that the lease's clock counts the time in which the machine is
	// suspended: as that of a Store for several machines does, and a lease file's not.
	CountsSuspend bool
	// Command is the command and its arguments.
	Command []string
	// Grace is the time between TERM and KILL. See DefaultGrace.
	Grace time.Duration
	// Nonblock does not wait for the lease.
	Nonblock bool
	// Wait bounds the wait for the lease; 0 does not.
	Wait time.Duration
	// Warn is told of what goes wrong during the wait, each only once in a row.
	Warn func(error)
}

// A HeldError says that somebody else owns the lease.
type HeldError struct {
	Holder owner.Record  // the zero Record where nobody could be named
	Waited time.Duration // 0: it was not to be waited for
	Err    error         // what has kept this process from owning, if not the holder
}

func (e *HeldError) Error() string { return "somebody else owns the lease" }

// A SignalError says which signal has ended the wait for the lease.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "while waiting: " + e.Signal.String() }

// A StartError says why the command cannot be run.
type StartError struct{ Err error }

func (e *StartError) Error() string { return "cannot run COMMAND: " + e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Run waits for the lease, runs the command while this process owns it, ends
// what the command leaves behind, and releases the lease. It returns the
// command's exit code: 128+n if signal n has ended it.
//
// The error is a *HeldError, *SignalError or *StartError, the *owner.LostError if
// the lease was lost while the command ran, or why the lease cannot be joined.
//
// When the lease is lost, nothing of the command is left by the time at which it
// expires. The same is so, on Unix, when this process is stopped: a second
// process, the warden, watches the time. It also ends the command when this
// process is killed; on Windows, and the command itself on Linux, the kernel does.
// Where the lease goes on running out while the machine is suspended, the command
// ends right after the resume.
//
// What cannot be helped: between a kill -9 of this process and the end of the
// command that follows, a successor can own the lease for some microseconds. And
// on Unix, processes that leave the command's process group are not found.
func Run(o Options) (code int, err error) {
	path, err := exec.LookPath(o.Command[0])
	if err != nil {
		return 0, &StartError{err} // before a long wait for nothing
	}
	if o.Config.SafetyMargin, err = margin(o.Config.TTL, o.Grace); err != nil {
		return 0, err
	}
	renewed := make(chan struct{}, 1)
	o.Config.OnTransition = func(t owner.Transition) {
		if t.To != owner.StateOwner {
			return
		}
		select {
		case renewed <- struct{}{}:
		default:
		}
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, endingSignals()...)
	defer signal.Stop(signals)
	own, err := o.await(signals)
	if err != nil {
		return 0, err
	}
	defer func() {
		// After a loss it does nothing. The command's outcome stays what it is.
		if e := own.Release(); e != nil && err == nil {
			err = &ReleaseError{e}
		}
	}()
	cmd := &exec.Cmd{
		Path: path, Args: o.Command, Env: o.environ(own),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	base := timebase(o.CountsSuspend)
	j, err := startJob(cmd, signals, own, base)
	if err != nil {
		return 0, err
	}
	defer j.close()
	go tellExpiry(j, own, base, renewed)
	return supervise(j, own, signals, o.Grace)
}

// A ReleaseError says that a successor may have to wait until the lease has
// expired. The command has ended as Run says.
type ReleaseError struct{ Err error }

func (e *ReleaseError) Error() string { return e.Err.Error() }
func (e *ReleaseError) Unwrap() error { return e.Err }

// environ is this process's environment and what the command may want to know of
// its lease: the epoch above all, to pass on with every effect.
func (o *Options) environ(own *owner.Owner) []string {
	return append(os.Environ(),
		"OWNER_LEASE="+o.Lease,
		"OWNER_INSTANCE_ID="+own.InstanceID(),
		"OWNER_EPOCH="+strconv.FormatUint(own.Epoch(), 10))
}

// errWaited ends a wait that was bounded.
var errWaited = errors.New("waited long enough")

// await waits for the lease, until a signal or its time ends the wait. Neither
// ends the ownership later: the lease is kept until the command has ended.
func (o *Options) await(signals <-chan os.Signal) (*owner.Owner, error) {
	ctx, end := context.WithCancelCause(context.Background())
	var timeout <-chan time.Time
	if o.Wait > 0 {
		timeout = time.After(o.Wait)
	}
	won, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case sig := <-signals:
			end(&SignalError{sig.(syscall.Signal)})
		case <-timeout:
			end(errWaited)
		case <-won:
		}
	}()
	attempt := owner.Campaign
	if o.Nonblock {
		attempt = owner.Join
	}
	cfg, waiting := o.Config, &warner{warn: o.Warn}
	cfg.Logger = slog.New(waiting)
	own, err := attempt(ctx, cfg)
	waiting.over.Store(true)
	close(won)
	<-watched

	cause := context.Cause(ctx)
	if cause == nil && err == nil && own.IsOwner() {
		return own, nil
	}
	held := &HeldError{Waited: o.Wait}
	if own != nil {
		held.Holder = own.Holder()
		if why := own.Check(); why != owner.ErrNotOwner {
			held.Err = why
		}
		_ = own.Release() // for a follower, nothing
	}
	switch {
	case cause == errWaited || cause == nil && err == nil:
		return nil, held
	case cause != nil:
		return nil, cause
	}
	return nil, err
}

// supervise watches over the command, and says how it ended.
func supervise(j *job, own *owner.Owner, signals <-chan os.Signal, grace time.Duration) (int, error) {
	s := supervisor{job: j, own: own, grace: grace}
	code := s.watch(signals)
	// Ask, do not wait to be told: after a pause of this process the command may
	// have ended by the loss before the loss has been delivered.
	if own.Check() == nil {
		return code, nil
	}
	return code, lost(own, "lost the lease, and ended COMMAND")
}

// lost returns the loss, which may be just about to be delivered.
func lost(own *owner.Owner, what string) error {
	<-own.Lost()
	return fmt.Errorf("%s: %w", what, own.LostErr())
}
