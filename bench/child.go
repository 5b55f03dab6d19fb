package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/ownerlease/owner/internal/clock"
)

// Each contender is a separate process: this program starts itself. A child serves one
// request after the other on its standard input, and ends when that is closed.

const childEnv = "OWNER_BENCH_CHILD"

type request struct {
	Do string
	N  int
}

type reply struct {
	At      time.Duration // by the shared clock: when it was done; of a release: when it was begun
	Took    []time.Duration
	Sights  []Sight
	Renewed time.Duration // when the last renewal that succeeded was begun
	Key     string
	Err     string
}

func runChild(text string) int {
	var s spec
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = obey(s, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: child:", err)
		return 1
	}
	return 0
}

// obey serves requests until they end.
func obey(s spec, in io.Reader, out io.Writer) error {
	p, err := open(s)
	if err != nil {
		return err
	}
	c := &obedient{spec: s, peer: p, won: make(chan error, 1)}
	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var req request
		switch err := requests.Decode(&req); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		var r reply
		if err := c.do(req, &r); err != nil {
			r.Err = err.Error()
		}
		if err := replies.Encode(r); err != nil {
			return err
		}
	}
}

// obedient is the child's side.
type obedient struct {
	spec     spec
	peer     contender
	won      chan error
	at       time.Duration // when it won
	observer *observer
}

func (c *obedient) do(req request, r *reply) (err error) {
	ctx := context.Background()
	switch req.Do {
	case "stand":
		go func() {
			err := c.peer.campaign(ctx)
			c.at = clock.Now()
			c.won <- err
		}()
	case "await":
		err = <-c.won
		r.At = c.at
		if err == nil && c.spec.Observed {
			c.observer = newObserver(c.peer.views())
			go c.observer.run()
		}
		if k, ok := c.peer.(keyed); ok && err == nil {
			r.Key = k.key()
		}
	case "release":
		r.At = clock.Now()
		err = c.peer.release(ctx)
	case "hang", "recover":
		c.peer.(hanger).hang(req.Do == "hang")
	case "work":
		c.observer.work()
	case "seen":
		r.Sights = c.observer.seen()
		if p, ok := c.peer.(renewed); ok {
			r.Renewed = p.renewedAt()
		}
	case "rounds":
		r.Took, err = c.rounds(ctx, req.N, roundEvery)
	case "again":
		r.Took, err = c.rounds(ctx, req.N, 0)
	case "renew":
		r.Took, err = c.peer.(renewer).renew(ctx, req.N)
	default:
		err = fmt.Errorf("unknown request %q", req.Do)
	}
	return err
}

// rounds acquires and releases the lease n times, after one round that does not count.
func (c *obedient) rounds(ctx context.Context, n int, every time.Duration) (took []time.Duration, err error) {
	for range n + 1 {
		begun := time.Now()
		if err := c.peer.campaign(ctx); err != nil {
			return nil, err
		}
		if err := c.peer.release(ctx); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
		time.Sleep(every)
	}
	return took[1:], nil
}

// A child is the parent's side.
type child struct {
	peer    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies *json.Decoder
}

// start starts a contender. It ends with ctx.
func start(ctx context.Context, s spec) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a contender: %w", err)
	}
	return &child{s.Peer, cmd, in, json.NewDecoder(out)}, nil
}

// ask makes a request and waits for the reply.
func (c *child) ask(do string, n ...int) (reply, error) {
	req := request{Do: do}
	if len(n) > 0 {
		req.N = n[0]
	}
	var r reply
	err := json.NewEncoder(c.in).Encode(req)
	if err == nil {
		err = c.replies.Decode(&r)
	}
	if err == nil && r.Err != "" {
		err = fmt.Errorf("%s", r.Err)
	}
	if err != nil {
		return reply{}, fmt.Errorf("%s: %s: %w", c.peer, do, err)
	}
	return r, nil
}

// end ends the child, however it is.
func (c *child) end() {
	_ = c.cmd.Process.Kill()
	_ = c.in.Close()
	_ = c.cmd.Wait()
}
