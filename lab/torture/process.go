package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// A process is one that the director has started: this program in another part. It
// ends when its stdin does, so that none outlives the director.
type process struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	journal string // a worker's
	name    string // a worker's: pids come again, and differ in containers
	// contained: it is in its own pid namespace, where its pid is 1.
	contained bool

	// parted is the clock's reading before it was killed or asked to end, 0 until then.
	parted atomic.Int64
	killed atomic.Bool
	done   chan struct{} // closed when it has ended; then:
	ended  time.Duration // the clock's reading after that
	err    error
}

func start(path, part string, contained bool, env []string, stdout, stderr io.Writer) (*process, error) {
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), append(env, partEnv+"="+part)...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	isolate(cmd)
	if contained {
		contain(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a %s: %w", part, err)
	}
	cmd.Env = nil // an hour has tens of thousands of processes
	p := &process{cmd: cmd, stdin: stdin, contained: contained, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
		p.ended = clock.Now()
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill kills it, and does not wait: on a frozen disk that takes until it is thawed.
func (p *process) kill() error {
	p.part()
	p.killed.Store(true)
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (p *process) part() { p.parted.CompareAndSwap(0, int64(clock.Now())) }

// leave asks it to end, and await waits for that, but not for ever.
func (p *process) leave() {
	p.part()
	_ = p.stdin.Close()
}

func (p *process) await(limit time.Duration) error {
	if p.within(limit) {
		return p.failure()
	}
	err := errors.Join(fmt.Errorf("process %d did not end within %v, and is killed", p.pid(), limit), p.kill())
	p.within(limit)
	return err
}

func (p *process) within(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	return p.over()
}

// over reports whether it has ended.
func (p *process) over() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// failure says how it has ended, if it was not asked to.
func (p *process) failure() error {
	if p.killed.Load() || p.parted.Load() > 0 && p.err == nil {
		return nil
	}
	return fmt.Errorf("process %d has ended unexpectedly (%v): stderr may have more", p.pid(), p.cmd.ProcessState)
}

// tell sends it a command.
func (p *process) tell(command string) error {
	_, err := fmt.Fprintln(p.stdin, command)
	return err
}
