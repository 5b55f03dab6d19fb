package run

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A prober is the warden's child, so that what a probe starts is of the command: it ends
// with it, and by the lease's end at the latest.

// probes are those that have been ordered from the warden.
type probes struct {
	mu      sync.Mutex
	last    uint32
	waiting map[uint32]chan probeResult
}

func (p *probes) add() (id uint32, answer <-chan probeResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[uint32]chan probeResult{}
	}
	p.last++
	c := make(chan probeResult, 1)
	p.waiting[p.last] = c
	return p.last, c
}

func (p *probes) remove(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, id)
}

func (p *probes) answer(id uint32, text []byte) {
	r := probeResult{Failed: errProbeGone.Error()}
	_ = json.Unmarshal(text, &r) // empty if the prober was killed
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.waiting[id]; c != nil {
		c <- r
		delete(p.waiting, id)
	}
}

// probe runs a probe, and returns why it has failed.
func (j *job) probe(ctx context.Context, p probeOrder) error {
	id, answer := j.probes.add()
	defer j.probes.remove(id)
	j.send(order{Probe: id}, p.bytes())
	select {
	case r := <-answer:
		return r.err()
	case <-j.gone:
	case <-j.reaped:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return errProbeGone
}

// bytes has a zero byte between the parts: they cannot have one themselves.
func (p probeOrder) bytes() []byte {
	return []byte(strings.Join(append([]string{p.limit.String(), p.dir, p.path}, p.args...), "\x00"))
}

func parseProbeOrder(text []byte) (p probeOrder, err error) {
	parts := strings.Split(string(text), "\x00")
	if len(parts) < 4 {
		return p, errors.New("no probe")
	}
	p.limit, err = time.ParseDuration(parts[0])
	p.dir, p.path, p.args = parts[1], parts[2], parts[3:]
	return p, err
}

// probe starts a prober, and has its result reported. It must be called on the main
// thread: the kernel ends the prober with the thread that has started it.
func (w *warden) probe(id uint32, text []byte) {
	result, err := w.startProber(text)
	if err != nil {
		b, _ := json.Marshal(probeResult{Failed: err.Error()})
		w.tell(reportProbe, int64(id), b...)
		return
	}
	go func() {
		defer result.Close()
		text, _ := io.ReadAll(io.LimitReader(result, 16*mostOutput))
		w.tell(reportProbe, int64(id), text...)
	}()
}

func (w *warden) startProber(text []byte) (*os.File, error) {
	p, err := parseProbeOrder(text)
	if err == nil && w.over.Load() {
		err = errProbeGone // COMMAND has ended, and nothing is started any more
	}
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	result, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	_, err = syscall.ForkExec("/proc/self/exe", append([]string{proberName, p.path}, p.args...), &syscall.ProcAttr{
		Dir: p.dir, Env: append(os.Environ(), probeEnv+"="+p.limit.String()),
		Files: []uintptr{null.Fd(), in.Fd(), null.Fd()},
		Sys:   &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		_ = result.Close()
		return nil, os.NewSyscallError("exec", err)
	}
	return result, nil
}
