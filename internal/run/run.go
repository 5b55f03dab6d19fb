// Package run runs a command for as long as this process owns a lease, and no longer. It
// needs a whole process: it takes the signals, and on Unix it reaps every child.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
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
	// suspended: that of a Store for several machines does, that of a lease file does not.
	CountsSuspend bool
	// Command is the command and its arguments.
	Command []string
	// Grace is the time between TERM and KILL. See DefaultGrace.
	Grace time.Duration
	// Nonblock does not wait for the lease.
	Nonblock bool
	// Wait bounds the wait for the lease; 0 does not.
	Wait time.Duration
	// Replace asks the present owner to step down for this process.
	Replace bool
	// Warn is called with each error during the wait, the same one only once in a row,
	// and with an UnendedError if processes of COMMAND cannot be ended.
	Warn func(error)
	// Waiting is called, in a separate goroutine, when the wait has lasted for
	// WaitingAfter, and every two seconds from then on. over says that the wait has
	// ended, and that there is nothing to report.
	Waiting      func(over func() bool)
	WaitingAfter time.Duration
	// Owning is called when the lease is owned, with how long that has taken.
	Owning func(waited time.Duration)

	// Restart is how often in a row the command is started again after it has failed, with
	// growing pauses, while the lease is kept.
	Restart int
	// Checks says when the command is ready, and whether it is healthy.
	Checks Checks

	service *service
}

// A HeldError says that another instance owns the lease.
type HeldError struct {
	Holder owner.Record  // the zero Record where the owner is unknown
	Waited time.Duration // 0: it was not to be waited for
	Err    error         // what has kept this process from owning, if not the holder
}

func (e *HeldError) Error() string { return "another instance owns the lease" }

// A SignalError names the signal that has ended the command or, before, the wait for the
// lease. This process should end by it, too: see Die.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "ended by a signal: " + e.Signal.String() }

// A NestedError says that this process was started by the command that runs under the
// lease it should wait for: it would wait for itself.
type NestedError struct{ Lease string }

func (e *NestedError) Error() string {
	return e.Lease + " is owned for the command that has started this one: it would wait for itself"
}

// An UnendedError names processes of the command that cannot be ended. Run waits
// for their end and does not release the lease before.
type UnendedError struct {
	Left string // the processes, as they are to be named
	Why  string
	Owns bool // the lease is still owned, and is renewed
}

func (e *UnendedError) Error() string {
	next := "the lease is kept until it has ended"
	if !e.Owns {
		next = "the lease is lost, and when it has expired another process can own it beside this one"
	}
	return fmt.Sprintf("cannot end %s of COMMAND: %s; %s", e.Left, e.Why, next)
}

// An OutlivedError says that the lease was lost, and that processes of the command
// were left when it expired: they could not be ended. They have ended now.
type OutlivedError struct {
	Left string        // the processes, as they are to be named
	For  time.Duration // how long after the lease had expired the last one ended
	Err  *owner.LostError
}

func (e *OutlivedError) Error() string {
	return fmt.Sprintf("lost the lease, and could not end %s of COMMAND, which ended %v after the lease had expired: %v",
		e.Left, e.For.Round(time.Millisecond), e.Err)
}
func (e *OutlivedError) Unwrap() error { return e.Err }

// A StartError says why the command cannot be run.
type StartError struct{ Err error }

func (e *StartError) Error() string { return "cannot run COMMAND: " + e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Run waits for the lease, runs the command while this process owns it, ends
// what the command leaves behind, and releases the lease. It returns the
// command's exit code: 128+n, and a *SignalError, if signal n has ended it.
//
// The other errors are a *HeldError, *NestedError or *StartError, a *SignalError
// if a signal has ended the wait, the *owner.LostError if the lease was lost while
// the command ran, an *OutlivedError if something of the command was left when the
// lease expired, or why the lease cannot be joined.
//
// When another instance asks for the lease (owner.RequestHandover), the command gets TERM,
// as if it had been sent to this process. Its code is then 0 if TERM has ended it.
//
// When the lease is lost, all processes of the command are ended before the lease
// expires. On Unix, a second process, the warden, does the same when this process is
// stopped or killed; on Windows the kernel does. Where the time of a suspend counts for
// the lease, the command ends right after the resume. The lease is not released while a
// process of the command is left: those that cannot be ended are reported to Warn, and
// waited for.
//
// Of the command are, on Linux, all processes below it, in whatever session or
// group, and those whose parents have ended. On Windows, all in its job object.
// Elsewhere, those that stay in its process group: one that leaves the group, as
// by setsid(1) or timeout(1), is not found.
//
// Limits: between a kill -9 of this process and the end of the command that follows, a
// successor can own the lease for some microseconds. A process that has become another
// user's can be ended only by root. If this process and the warden are both killed, the
// command ends on Linux, but what it has started need not. If both are frozen, as with a
// whole container, the command can take some steps when they thaw, before it is ended.
// And a process that another one starts for the command, like a service manager or a
// container engine, is not the command's.
func Run(o Options) (code int, err error) {
	path, err := lookPath(o.Command[0])
	if err != nil {
		return 0, &StartError{err} // before a long and useless wait
	}
	if o.Config.SafetyMargin, err = margin(o.Config.TTL, o.Grace); err != nil {
		return 0, err
	}
	renewed := make(chan struct{}, 1)
	o.Config.OnTransition = func(t owner.Transition) {
		o.service.joined(&o, t)
		if t.To != owner.StateOwner {
			return
		}
		select {
		case renewed <- struct{}{}:
		default:
		}
	}
	if err := CheckFiles(filesOfRun); err != nil {
		return 0, err // before the lease is acquired in vain
	}
	if !o.Nonblock && o.isNested() {
		return 0, &NestedError{o.Lease}
	}
	o.service = newService(o.Warn)
	defer o.service.close()
	at, err := newTending(&o)
	if err != nil {
		return 0, err
	}
	defer at.close()
	keepIgnored()
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, endingSignals()...)
	defer signal.Stop(signals)
	own, err := o.await(signals)
	if err != nil {
		return 0, err
	}
	at.elected(own)
	defer func() {
		// After a loss it does nothing. The command's outcome stays what it is.
		var killed *SignalError
		if e := own.Release(); e != nil && (err == nil || errors.As(err, &killed)) {
			err = &ReleaseError{e}
		}
	}()
	c := course{o: &o, path: path, own: own, signals: signals, renewed: renewed, tending: at, hangsUp: onTerminal()}
	return c.run()
}

// filesOfRun is how many files Run has open at most, with room for a few more.
const filesOfRun = 10

// A ReleaseError says that a successor may have to wait until the lease has
// expired. The command has ended as Run says.
type ReleaseError struct{ Err error }

func (e *ReleaseError) Error() string { return e.Err.Error() }
func (e *ReleaseError) Unwrap() error { return e.Err }

// environ is this process's environment and what the command may want to know of
// its lease: the epoch above all, to pass on with every effect.
func (o *Options) environ(own *owner.Owner, more ...string) []string {
	return append(append(os.Environ(), more...),
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
	switch {
	case o.Nonblock:
		attempt = owner.Join
	case o.Replace:
		attempt = o.replace
	}
	cfg, waiting := o.Config, &warner{warn: o.Warn}
	cfg.Logger = slog.New(waiting)
	over, begun := make(chan struct{}), time.Now()
	if o.Waiting != nil && !o.Nonblock {
		tellWait(waitTeller{call: o.Waiting, after: o.WaitingAfter, over: over})
	}
	o.service.waits(o, over)
	own, err := attempt(ctx, cfg)
	waiting.over.Store(true)
	o.service.waitEnds()
	close(over)
	close(won)
	<-watched

	cause := context.Cause(ctx)
	if cause == nil && err == nil && own.IsOwner() {
		if o.Owning != nil {
			go o.Owning(time.Since(begun)) // a terminal that is stopped must not keep COMMAND from beginning
		}
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
	if held.Holder.InstanceID == "" && held.Err == nil {
		held.Err = waiting.why()
	}
	switch {
	case cause == errWaited || cause == nil && err == nil:
		return nil, held
	case cause != nil:
		return nil, cause
	}
	return nil, err
}

// loss returns the loss's outcome, when no process of the command is left.
func (s *supervisor) loss() error {
	err := lost(s.own, "lost the lease, and ended COMMAND")
	var loss *owner.LostError
	if s.left != "" && errors.As(err, &loss) {
		if late := -untilExpiry(loss, s.own.Holder().TTL); late > 0 {
			return &OutlivedError{Left: s.left, For: late, Err: loss}
		}
	}
	return err
}

// lost returns the loss, which may be just about to be delivered.
func lost(own *owner.Owner, what string) error {
	<-own.Lost()
	return fmt.Errorf("%s: %w", what, own.LostErr())
}
