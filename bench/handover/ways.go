//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/reach"
)

// A way is how a service is replaced.
type way struct {
	name    string
	start   func(context.Context, *service) error
	replace func(context.Context, *service) error
	client  func(*service) (http.RoundTripper, func())
}

var ways = []way{
	{"owner", startOne, replaceOwner, func(s *service) (http.RoundTripper, func()) {
		c := &reach.Client{LeasePath: s.lease()}
		return c, func() { _ = c.Close() }
	}},
	{"tableflip", startOne, replaceFlipped, atPort},
	{"restart", startOne, restart, atPort},
}

// A service is the processes of one row.
type service struct {
	mode    string
	dir     string
	address string
	now     *exec.Cmd
	flipped int // the pid of tableflip's process, which it starts by itself
}

func (s *service) lease() string   { return filepath.Join(s.dir, "lease") }
func (s *service) journal() string { return filepath.Join(s.dir, "journal") }
func (s *service) pidFile() string { return filepath.Join(s.dir, "pid") }

// launch starts a version of the service.
func (s *service) launch() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerEnv+"="+s.mode, dirEnv+"="+s.dir, addressEnv+"="+s.address)
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

func startOne(_ context.Context, s *service) (err error) {
	s.now, err = s.launch()
	return err
}

// replaceOwner starts the next version, which becomes a standby, asks for the handover, and
// ends the last version.
func replaceOwner(ctx context.Context, s *service) error {
	next, err := s.launch()
	if err != nil {
		return err
	}
	last := s.now
	s.now = next
	sleep(ctx, 200*time.Millisecond) // a standby by then; if not, the handover waits for it
	if err := owner.RequestHandover(ctx, owner.Config{LeasePath: s.lease()}, ""); err != nil {
		return err
	}
	for rec := range owner.Watch(ctx, s.lease()) {
		if rec.PID == next.Process.Pid {
			break
		}
	}
	return endInOrder(last)
}

// replaceFlipped has the process start its successor, and waits for that.
func replaceFlipped(ctx context.Context, s *service) error {
	last, err := s.pid()
	if err != nil {
		return err
	}
	if err := syscall.Kill(last, syscall.SIGHUP); err != nil {
		return err
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); sleep(ctx, time.Millisecond) {
		if pid, err := s.pid(); err == nil && pid != last {
			s.flipped = pid
			return nil
		}
	}
	return errors.New("tableflip has not started the next version within 10 s")
}

func (s *service) pid() (int, error) {
	b, err := os.ReadFile(s.pidFile())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// restart ends the last version in order before it starts the next.
func restart(ctx context.Context, s *service) error {
	if err := endInOrder(s.now); err != nil {
		return err
	}
	return startOne(ctx, s)
}

func endInOrder(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the last version: %w", err)
	}
	return nil
}

func (s *service) end() {
	if s.flipped != 0 {
		_ = syscall.Kill(s.flipped, syscall.SIGTERM)
	}
	if s.now != nil {
		_ = s.now.Process.Signal(syscall.SIGTERM)
		_ = s.now.Wait()
	}
}
