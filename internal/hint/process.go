package hint

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// Process calls hint once, when the process has ended. A process that does not
// exist, and this one, give no hint and no error: read after the call.
//
// A pid has no meaning in another pid namespace, see PIDNamespace, and pids are reused.
func Process(pid int, hint func()) (stop func(), err error) {
	if pid <= 0 || pid == os.Getpid() {
		return nothing, nil
	}
	stop, err = running.subscribe(pid, always(hint))
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return nothing, nil
	case err != nil:
		return nothing, fmt.Errorf("watching the process %d: %w", pid, adviseProcess(err))
	}
	return stop, nil
}

var running = &processes{byPID: map[int]*process{}}

type processes struct {
	mu    sync.Mutex // held while hints are called
	byPID map[int]*process
}

type process struct {
	exit  *exit // wait returns when the process has ended, or after cancel
	hints hints
	done  chan struct{} // closed when the wait has ended
}

func (ps *processes) subscribe(pid int, hint *subscriber) (stop func(), err error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byPID[pid]
	if p == nil {
		e, err := openExit(pid)
		if err != nil {
			return nil, err
		}
		p = &process{exit: e, done: make(chan struct{})}
		ps.byPID[pid] = p
		go ps.wait(pid, p)
	}
	p.hints = append(p.hints, hint)
	return func() {
		if ps.unsubscribe(pid, p, hint) {
			<-p.done
		}
	}, nil
}

// unsubscribe reports whether no subscriber is left.
func (ps *processes) unsubscribe(pid int, p *process, hint *subscriber) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.hints, _ = p.hints.without(hint)
	if len(p.hints) > 0 {
		return false
	}
	if ps.byPID[pid] == p { // else it has ended
		delete(ps.byPID, pid)
		p.exit.cancel()
	}
	return true
}

func (ps *processes) wait(pid int, p *process) {
	defer close(p.done)
	p.exit.wait()
	ps.ended(pid, p)
	p.exit.close() // only now that cancel can no longer be called
}

func (ps *processes) ended(pid int, p *process) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.byPID[pid] == p { // else it was canceled: no subscriber is left
		delete(ps.byPID, pid)
	}
	p.hints.call()
}
