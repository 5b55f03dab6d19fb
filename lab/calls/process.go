package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

// A process is a worker that the director has started. It ends when its stdin does, so
// that none outlives the director.
type process struct {
	task
	cmd   *exec.Cmd
	stdin io.WriteCloser
	node  string // the address of its own port, "" if it has none

	parted atomic.Bool   // it was killed or asked to end
	done   chan struct{} // closed when it has ended; then:
	err    error
}

const taskEnv = "_OWNER_CALLS_TASK"

// start starts a worker, and returns when that has set itself up.
func start(program string, t task, stderr io.Writer) (*process, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), taskEnv+"="+string(b))
	cmd.Stderr = stderr
	isolate(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a worker: %w", err)
	}
	p := &process{task: t, cmd: cmd, stdin: stdin, done: make(chan struct{})}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("%s has ended before it was ready; stderr may have more: %w", t.Worker, err)
	}
	p.node = strings.TrimSpace(line)
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill kills it, and waits until it has ended.
func (p *process) kill() {
	p.parted.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// leave asks it to step down and end.
func (p *process) leave() {
	p.parted.Store(true)
	p.terminate()
}

// await waits until a process that was asked to has ended.
func (p *process) await(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.failure()
	case <-timer.C:
		p.kill()
		return fmt.Errorf("%s did not end within %v, and was killed", p.Worker, limit)
	}
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
	var exit *exec.ExitError
	if p.parted.Load() && (p.err == nil || errors.As(p.err, &exit) && !exit.Exited()) {
		return nil
	}
	return fmt.Errorf("%s has ended unexpectedly (%v): stderr may have more", p.Worker, p.cmd.ProcessState)
}

// tell sends it a command.
func (p *process) tell(command string) error {
	_, err := fmt.Fprintln(p.stdin, command)
	return err
}
