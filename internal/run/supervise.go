package run

import (
	"os"
	"time"

	"github.com/ownerlease/owner"
)

// A supervisor watches over one command under one ownership. Its loop waits for
// nothing but its inputs. In particular it prints nothing: a terminal that is
// stopped, or a full pipe, must not let the command outlive the lease.
//
// It needs of a job, which differs by operating system:
//
//	startJob    starts the command so that what it starts can be ended with it
//	ended       receives the command's exit code
//	forward     passes a signal on to all of the job
//	terminate   asks all of the job to end
//	kill        ends all of the job
//	empty       tells whether nothing of the job is left
//	extend      says by when nothing may be left if this process stands still
//	close       frees what the job holds, when nothing of it is left
type supervisor struct {
	job    *job
	own    *owner.Owner
	grace  time.Duration
	killAt time.Time // zero: nothing is to be ended
}

// watch returns the command's exit code when nothing of the job is left.
func (s *supervisor) watch(signals <-chan os.Signal) (code int) {
	running := true
	lost := s.own.Lost()
	for running || !s.job.empty() {
		select {
		case sig := <-signals:
			// Also TERM: the lease is kept until the command has ended.
			s.job.forward(sig, s.own.IsOwner)
		case code = <-s.job.ended:
			running = false
			if !s.job.empty() {
				s.end(s.grace)
			}
		case <-lost:
			lost = nil
			loss := s.own.LostErr().(*owner.LostError)
			s.end(min(s.grace, untilKill(loss, s.own.Holder().TTL)))
		case <-s.next():
			if !time.Now().Before(s.killAt) {
				s.job.kill() // and again: it may have missed one that was just forked
			}
		}
	}
	return code
}

// end ends all that is left of the job: TERM now, KILL after the grace.
func (s *supervisor) end(grace time.Duration) {
	if s.killAt.IsZero() && grace > 0 {
		s.job.terminate()
	}
	if at := time.Now().Add(grace); s.killAt.IsZero() || at.Before(s.killAt) {
		s.killAt = at
	}
	if grace <= 0 {
		s.job.kill()
	}
}

// next wakes the loop while something is being ended: nobody tells when the last
// process of a job has gone, and KILL falls due.
func (s *supervisor) next() <-chan time.Time {
	if s.killAt.IsZero() {
		return nil
	}
	const often = 5 * time.Millisecond
	if left := time.Until(s.killAt); left > 0 {
		return time.After(min(left, often))
	}
	return time.After(often)
}
