package owner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ownerlease/owner/internal/hint"
	"github.com/ownerlease/owner/internal/proc"
)

// KillHolder ends the process of a hung owner, and returns nil when it has gone and its
// alive lock is free, so that another instance can own the lease, and have what the
// process held. It is what [Config.Evict] is usually set to; it can also be called with
// what Probe has returned.
//
// It kills: no work winds down, and all leases and all else of that process end with it,
// whatever it is. So do the processes of COMMAND where it is an "owner run". It never
// kills by a pid alone, which can have become another process's: it holds the process (by
// a pidfd, or on Windows by a handle), then makes sure that it was started when the
// record says, and then, that its lease has expired and the alive lock is held. A process
// that continues at that very moment, and finds that it has lost the lease, is killed all
// the same.
//
// It returns nil, and kills nothing, where the owner has gone already, or another instance
// has taken the lease. It refuses, with an error that says why, an owner whose lease has
// not expired; one of another user, another boot, another pid or time namespace; this
// process itself; pid 1; a record that does not say when the process was started, as those
// of earlier versions do not. On macOS and the BSDs, and before Linux 5.3, no process can
// be held: the error matches errors.ErrUnsupported.
//
// If ctx ends before the process has gone, its cause is in the error: a process in an
// uninterruptible call ends when that returns. A Status that is not of a lease file is
// refused with [ErrInvalidConfig].
func KillHolder(ctx context.Context, s Status) error {
	if s.store == nil {
		return &opError{"kill the holder", fmt.Errorf("%w: the status must be from Probe, or the one that Config.Evict is called with", ErrInvalidConfig)}
	}
	if err := s.store.killHolder(ctx, s.Record.InstanceID); err != nil {
		return &opError{"kill the holder of " + s.store.path, err}
	}
	return nil
}

// killHolder ends the process of an instance that hangs.
func (s *fileStore) killHolder(ctx context.Context, id string) error {
	rec, err := s.hung(id)
	if rec == nil || err != nil {
		return err
	}
	if err := s.comparesPID(rec); err != nil {
		return err
	}
	p, err := s.OpenProcess(rec.PID)
	if errors.Is(err, os.ErrProcessDone) {
		return s.awaitUnlock(ctx, rec)
	}
	if err != nil {
		return err
	}
	defer p.Close()
	switch err := s.kill(ctx, p, rec); {
	case err == nil, errors.Is(err, os.ErrProcessDone):
		return s.awaitUnlock(ctx, rec)
	case errors.Is(err, errNotNeeded):
		return nil
	default:
		return fmt.Errorf("pid %d: %w", rec.PID, err)
	}
}

// kill kills the process that is held, and returns when it has ended. Its identity comes
// first, as it cannot change any more; then, that it is still the one that hangs.
func (s *fileStore) kill(ctx context.Context, p proc.Process, rec *diskRecord) error {
	if err := identify(p, rec); err != nil {
		return err
	}
	switch again, err := s.hung(rec.InstanceID); {
	case err != nil:
		return err
	case again == nil:
		return errNotNeeded
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// hung returns the record of an instance that hangs, nil if it has gone or its lease is
// another's, and an error if it is alive and does not hang.
func (s *fileStore) hung(id string) (*diskRecord, error) {
	rec, err := s.hungOwner()
	switch {
	case err != nil:
		return nil, explain(err)
	case rec != nil && rec.InstanceID == id:
		return rec, nil
	case s.alive(id, 0) == live:
		return nil, fmt.Errorf("instance %s is alive, and its lease has not expired, or its record is not in place: it is not killed", id)
	}
	return nil, nil
}

// comparesPID reports why the pid of a record cannot be that of a process here.
func (s *fileStore) comparesPID(rec *diskRecord) error {
	switch {
	case s.Clock() == "" || rec.Clock != s.Clock():
		return errors.New("its process is of another boot or time namespace: it can only be killed from there")
	case hint.PIDNamespaces && (rec.PIDNamespace == "" || rec.PIDNamespace != hint.PIDNamespace()):
		return fmt.Errorf("its process is of another pid namespace, %q, where its pid is another's: it can only be killed from there", rec.PIDNamespace)
	case rec.PID == s.PID():
		return fmt.Errorf("it is this process, pid %d", rec.PID)
	case rec.PID <= 1:
		return fmt.Errorf("pid %d is never killed", rec.PID)
	}
	return nil
}

// identify makes sure that the process is the one that has acquired the lease.
func identify(p proc.Process, rec *diskRecord) error {
	started, err := p.Started()
	switch {
	case err != nil:
		return err
	case rec.Started == "":
		return errors.New("the record does not say when the process was started, so it cannot be told from another of the same pid: it is of an earlier version")
	case started != rec.Started:
		return errors.New("it is another process than the one that has acquired the lease")
	}
	same, err := p.SameUser()
	if err == nil && !same {
		err = errors.New("it is another user's process")
	}
	return err
}

// awaitUnlock returns when the alive lock of a process that has ended is free. The kernel
// frees it before; but a process that it has forked, and that has not begun another
// program, has it still.
func (s *fileStore) awaitUnlock(ctx context.Context, rec *diskRecord) error {
	for pause := time.Millisecond; s.alive(rec.InstanceID, rec.Alive) == live; pause = min(2*pause, 50*time.Millisecond) {
		if err := s.Sleep(ctx, pause); err != nil {
			return fmt.Errorf("pid %d has ended, and a process that it has forked still holds the alive lock: %w", rec.PID, err)
		}
	}
	return nil
}

var errNotNeeded = errors.New("the owner does not hang any more")
