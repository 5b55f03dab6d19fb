package explore

import (
	"context"
	"os"

	"github.com/ownerlease/owner/internal/proc"
)

// A pid is a process's until that has ended. Then it can become another's.

// PID is this process's, and Started tells it from another that has the same.
func (p *Process) PID() int        { return p.pid }
func (p *Process) Started() string { return p.Name }

// Dead reports whether the process has ended.
func (p *Process) Dead() bool { return p.dead.Load() }

// Reuse starts a process that has nothing to do with the lease, and the pid of one that
// has ended.
func (k *Kernel) Reuse(ended *Process) *Process {
	p := k.NewProcess("another process, with the pid of " + ended.Name)
	p.pid = ended.pid
	return p
}

// ofPID returns the process that has the pid now, nil if there is none.
func (k *Kernel) ofPID(pid int) *Process {
	for _, p := range k.procs {
		if p.pid == pid && !p.Dead() {
			return p
		}
	}
	return nil
}

// OpenProcess holds the process that has the pid now.
func (p *Process) OpenProcess(pid int) (h proc.Process, err error) {
	err = p.step("opens the process of a pid", "", true, func() (any, error) {
		of := p.ofPID(pid)
		if of == nil {
			return nil, os.ErrProcessDone
		}
		h = &heldProcess{by: p, of: of}
		return uint64(of.number), nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// A heldProcess is the same process for ever.
type heldProcess struct{ by, of *Process }

func (h *heldProcess) Started() (started string, err error) {
	err = h.step("asks when it was started", func() {
		started = h.of.Started()
		if h.by.OnHeld != nil {
			h.by.OnHeld(h.by, h.of)
		}
	})
	return started, err
}

func (h *heldProcess) SameUser() (bool, error) { return true, nil }

func (h *heldProcess) Kill() error {
	return h.step("kills it", func() {
		if h.by.OnKill != nil {
			h.by.OnKill(h.by, h.of)
		}
		h.of.Kill()
	})
}

func (h *heldProcess) step(what string, do func()) error {
	return h.by.step(what, "", true, func() (any, error) {
		if h.of.Dead() {
			return nil, os.ErrProcessDone
		}
		do()
		return uint64(h.of.number), nil
	})
}

// Wait is no step: it comes after Kill, which has ended the process.
func (h *heldProcess) Wait(ctx context.Context) error {
	if h.of.Dead() {
		return nil
	}
	return context.Cause(ctx)
}

func (h *heldProcess) Close() {}
