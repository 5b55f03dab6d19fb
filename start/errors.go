package start

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ownerlease/owner"
)

// ErrNotReady: no owner was ready within Timeout. Trying again can help, as an owner that
// is not ready is left alone.
var ErrNotReady = errors.New("start: no owner is ready")

// StartError says why a process that was started, or was to be, did not become a ready
// owner.
type StartError struct {
	// Path is the program.
	Path string
	// Started says that the process was started.
	Started bool
	// ExitCode is its exit status, -1 if it was not started, has not ended by itself, or
	// was ended by a signal.
	ExitCode int
	// Log is the end of its output, up to 4 KiB, "" where there is none or Command.Log
	// is "".
	Log string
	// Err says what has happened: that of os/exec where it could not be started, or
	// one that matches ErrNotReady where the time was over.
	Err error

	advice string
}

func (e *StartError) Error() string {
	s := fmt.Sprintf("start: %s: %s", e.Path, strings.TrimPrefix(e.Err.Error(), "start: "))
	if e.Log != "" {
		s += ": its output ends: " + lastLines(e.Log)
	}
	if e.advice != "" {
		s += " (" + e.advice + ")"
	}
	return s
}

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }

// shownLog is how much of the log an error's text has.
const shownLog = 1 << 10

// lastLines is the end of a log in one line, from the beginning of a line if that is near.
func lastLines(log string) string {
	log = strings.ToValidUTF8(strings.TrimSpace(log), "?")
	if len(log) > shownLog {
		log = log[len(log)-shownLog:]
		if i := strings.IndexByte(log, '\n'); i >= 0 && i < shownLog/2 {
			log = log[i+1:]
		}
		log = "… " + strings.ToValidUTF8(log, "")
	}
	return strings.Join(strings.FieldsFunc(log, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func (t *try) lease() string {
	if path := leaseOf(t.store); path != "" {
		return path
	}
	if named, ok := t.store.(fmt.Stringer); ok {
		return named.String()
	}
	return "the lease"
}

// failed is the error of a process that has ended, or is about to.
func (t *try) failed(err error) error {
	e := &StartError{Path: t.cmd.Path, ExitCode: -1, Err: err}
	if c := t.child; c != nil {
		e.Started, e.Log = true, c.log.tail()
		if c.ended && !c.terminated {
			e.ExitCode = c.status.code
		}
	}
	if e.Log == "" {
		switch {
		case t.child == nil:
		case t.cmd.Log == "":
			e.advice = "to see its output, give a log file"
		default:
			e.advice = "it has written nothing to " + t.cmd.Log
		}
	}
	return e
}

// notReady says what was waited for when the time was over.
func (t *try) notReady() error {
	late := func(format string, args ...any) error {
		return fmt.Errorf("%w within %v: %s", ErrNotReady, t.cmd.Timeout, fmt.Sprintf(format, args...))
	}
	held := t.seen.Holder
	switch {
	case held.InstanceID != "" && t.child != nil && !t.child.ended:
		return t.failed(late("%s owns %s, and has advertised no endpoint; it is left running: wait longer, or do without an endpoint", who(held), t.lease()))
	case held.InstanceID != "":
		return late("%s owns %s, and has advertised no endpoint; it is left running: wait longer, or do without an endpoint", who(held), t.lease())
	case t.child != nil && t.child.ended:
		return t.failed(late("it has ended with %v, and no process that it may have left behind owns %s: it must acquire this lease", t.child.status, t.lease()))
	case t.child != nil:
		t.child.terminate()
		return t.failed(late("it has not acquired %s, and was ended: it must acquire this lease, or needs more time", t.lease()))
	case t.trouble != nil:
		return fmt.Errorf("%w: %w", late("who owns %s could not be read", t.lease()), t.trouble)
	case t.noted != nil:
		return late("the process %d, which a starter that has ended had started, does not own %s: end it, or wait longer", t.noted.PID, t.lease())
	}
	return late("another process is starting an owner of %s, and has the lock %s", t.lease(), t.cmd.Lock)
}

func who(r owner.Record) string {
	if r.PID == 0 {
		return "instance " + r.InstanceID
	}
	return fmt.Sprintf("pid %d on %s", r.PID, r.Host)
}

func (t *try) unreadable(err error) error {
	return fmt.Errorf("start: who owns %s cannot be read: %w", t.lease(), err)
}

func (t *try) canceled(ctx context.Context) error {
	return fmt.Errorf("start: waiting for an owner of %s: %w", t.lease(), context.Cause(ctx))
}

// exited is why a process that has ended is no owner.
func (t *try) exited() error {
	return t.failed(fmt.Errorf("it has ended with %v after %v, and no instance owns %s", t.child.status, time.Since(t.child.since).Round(time.Millisecond), t.lease()))
}
