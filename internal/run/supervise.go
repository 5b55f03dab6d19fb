package run

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
)

// A supervisor watches over one command under one ownership. Its loop waits for nothing
// but its inputs. In particular it prints nothing: a stopped terminal, or a full pipe,
// must not let the command outlive the lease.
//
// It needs of a job, which differs by operating system:
//
//	startJob    starts the command so that what it starts can be ended with it
//	ended       receives how the command has ended
//	forward     passes a signal on to the job
//	terminate   asks all of the job to end
//	kill        ends all of the job, and returns what it may not end, and all it has found
//	empty       reports whether no process of the job is left
//	abandoned   reports whether one is left that is no check of the command
//	extend      sets the deadline by which no process may be left if this one is stopped
//	close       frees what the job holds, when no process of it is left
type supervisor struct {
	job    *job
	own    *owner.Owner
	grace  time.Duration
	warn   func(error)
	toEnd  func()    // is called before the command, or what is left of it, is told to end
	killAt time.Time // zero: nothing is to be ended
	killed time.Time // when that was first tried
	left   string    // what could not be ended, as it was said last

	giveUp <-chan error // gets why the command is to be ended although the lease is owned
	gaveUp error        // what it got
	heard  []os.Signal  // the signals that were passed on and may have been meant to end it

	stepsDown bool // the command was to end because another instance asks for the lease
}

// An ending is how a command has ended.
type ending struct {
	code   int            // 128+n for signal n
	signal syscall.Signal // 0 where there was none
}

// watch returns how the command has ended when no process of the job is left.
func (s *supervisor) watch(signals <-chan os.Signal) (end ending) {
	running, began := true, time.Now()
	lost, asked := s.own.Lost(), s.own.HandoverRequested()
	for running || !s.job.empty() {
		select {
		case sig := <-signals:
			// Also TERM: the lease is kept until the command has ended.
			s.hear(sig)
			s.job.forward(sig, s.own.IsOwner)
		case end = <-s.job.ended:
			running = false
			if !s.job.empty() {
				s.sayForked(end, began)
				s.end(s.grace)
			}
		case <-asked:
			asked = nil
			if s.stepsDown = running; running {
				s.toEnd()
				s.job.forward(syscall.SIGTERM, s.own.IsOwner)
			}
		case <-lost:
			lost = nil
			loss := s.own.LostErr().(*owner.LostError)
			s.end(min(s.grace, untilKill(loss, s.own.Holder().TTL)))
		case s.gaveUp = <-s.giveUp:
			s.end(s.grace)
		case <-s.next():
			if !time.Now().Before(s.killAt) {
				s.kill() // and again: it may have missed one that was just forked
			}
		}
	}
	return end
}

// hear remembers a signal that can have been sent to end the command.
func (s *supervisor) hear(sig os.Signal) {
	if !isEnding(sig.(syscall.Signal)) || slices.Contains(s.heard, sig) {
		return
	}
	s.heard = append(s.heard, sig)
	if sig != syscall.SIGHUP { // which can ask for a reload
		s.toEnd()
	}
}

// asked reports whether the command has ended because a signal to this process has asked
// for it. HUP asks many a command to read its configuration again.
func (s *supervisor) asked(end ending) bool {
	for _, sig := range s.heard {
		if sig != syscall.SIGHUP || end.signal == syscall.SIGHUP {
			return true
		}
	}
	return false
}

// A command that ends in order within forksWithin, and leaves processes behind, is one that
// puts itself into the background.
const forksWithin = 5 * time.Second

func (s *supervisor) sayForked(end ending, began time.Time) {
	if end == (ending{}) && time.Since(began) < forksWithin && s.warn != nil && s.job.abandoned() && s.own.IsOwner() {
		go s.warn(errForked)
	}
}

var errForked = errors.New("COMMAND has ended at once, and what it has left behind is ended, too: have it stay in the foreground for as long as it is to own the lease")

// end ends all that is left of the job: TERM now, KILL after the grace.
func (s *supervisor) end(grace time.Duration) {
	s.toEnd()
	if s.killAt.IsZero() && grace > 0 {
		s.job.terminate()
	}
	if at := time.Now().Add(grace); s.killAt.IsZero() || at.Before(s.killAt) {
		s.killAt = at
	}
	if grace <= 0 {
		s.kill()
	}
}

// What KILL leaves is said after a moment: one that may not be killed can be about
// to end with what it was started by, and one that may is gone soon, but for one
// that waits for a disk.
const (
	refusedFor = 100 * time.Millisecond
	foundFor   = time.Second
)

// kill ends what is left, and returns what it cannot end.
func (s *supervisor) kill() {
	refused, found := s.job.kill()
	if s.killed.IsZero() {
		s.killed = time.Now()
	}
	switch tried := time.Since(s.killed); {
	case tried > refusedFor && len(refused) > 0:
		s.say(refused, "operation not permitted")
	case tried > foundFor && len(found) > 0:
		s.say(found, "still there after KILL")
	}
}

// say reports once the processes that cannot be ended. It does not wait until the report
// has been read.
func (s *supervisor) say(left []string, why string) {
	names := strings.Join(left, ", ")
	if s.left == names {
		return
	}
	s.left = names
	if s.warn != nil {
		// This process can be stopped before it is asked for the state.
		go s.warn(&UnendedError{Left: names, Why: why, Owns: s.own.IsOwner()})
	}
}

// next wakes the loop while processes are being ended: no input reports that the last
// process of a job has gone, or that KILL is due.
func (s *supervisor) next() <-chan time.Time {
	if s.killAt.IsZero() {
		return nil
	}
	often := 5 * time.Millisecond
	if s.left != "" {
		often = 100 * time.Millisecond // it can be hours
	}
	if left := time.Until(s.killAt); left > 0 {
		return time.After(min(left, often))
	}
	return time.After(often)
}
