package demo

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// A player is a child as its parent has it.
type player struct {
	story
	cmd   *exec.Cmd
	stdin io.WriteCloser

	standing bool   // it has reported that it is a standby
	owning   bool   // its last answer was that it owns
	instance string // of its last election
	epoch    uint64
	elected  time.Duration
	released time.Duration // 0: it has not
	resumed  time.Duration // when it was resumed, 0: it was never stopped
	first    *report       // its first sample since then
	loss     *report       // since then
	over     bool          // it was killed: its end is expected
}

// news is a report to the director, of a player or of the lease.
type news struct {
	from   *player
	report *report // nil: its process has ended
	owner  string  // of the lease: the instance, "" for none
	err    error   // of the watching
}

// startPlayer starts a child. When ctx ends, the child is resumed and asked to end, and
// killed if it does not.
func startPlayer(ctx context.Context, lease string, told chan<- news) (*player, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childEnv+"="+lease)
	cmd.Stderr = os.Stderr
	isolate(cmd)
	p := &player{cmd: cmd}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.WaitDelay = 2 * time.Second
	cmd.Cancel = func() error {
		_ = p.stdin.Close()
		return resume(cmd.Process)
	}
	p.began = clock.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	go p.listen(stdout, told)
	return p, nil
}

// listen passes on what the child reports, and that it has ended.
func (p *player) listen(stdout io.Reader, told chan<- news) {
	for lines := json.NewDecoder(stdout); ; {
		var r report
		if lines.Decode(&r) != nil { // the end, perhaps in the middle of a line
			break
		}
		told <- news{from: p, report: &r}
	}
	_ = p.cmd.Wait()
	told <- news{from: p}
}

// learn takes up a report.
func (p *player) learn(r *report) {
	switch r.Event {
	case standsBy:
		p.standing, p.owning = true, false
	case sampled:
		if r.Owns {
			p.sampled(r.At, r.Answered, !p.owning)
			p.owning = true
		}
		if p.resumed > 0 && p.first == nil && r.At >= p.resumed {
			p.first = r
		}
	case elected:
		p.instance, p.epoch, p.elected = r.Instance, r.Epoch, r.At
	case lost:
		p.fenced(r.Fence)
		p.standing, p.loss = false, r
	case released:
		p.released = r.At
	}
}
