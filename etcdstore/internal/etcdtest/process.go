package etcdtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is a real etcd, built from the module beside this package, so that
// etcdstore's importers have nothing of a server in their go.sum.
type process struct {
	cmd    *exec.Cmd
	peers  chan string   // the address for other members, once
	client chan string   // the address for clients, once it serves them
	exited chan struct{} // then:
	last   string        // what it has said last of what was wrong
}

// program builds etcd, or finds what was built before.
var program = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	build := exec.Command("go", "tool", "-n", "go.etcd.io/etcd/server/v3")
	build.Dir = filepath.Join(filepath.Dir(here), "server")
	// The tests' workspace, if any, does not contain the server.
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := build.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("build etcd in %s: %w", build.Dir, err)
	}
	return strings.TrimSpace(string(out)), nil
})

// launch starts an etcd with these flags.
func launch(flags ...string) (*process, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}
	p := &process{
		cmd: exec.Command(path, flags...), peers: make(chan string, 1), client: make(chan string, 1), exited: make(chan struct{}),
	}
	log, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	go func() {
		defer close(p.exited)
		p.read(log)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

// read reads the log, in which etcd reports the ports that the kernel has chosen.
func (p *process) read(log io.Reader) {
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadBytes('\n')
		var entry struct{ Level, Msg, Address, Error string }
		if json.Unmarshal(line, &entry) == nil {
			switch {
			case entry.Msg == "serving peer traffic":
				p.peers <- entry.Address
			case strings.HasPrefix(entry.Msg, "serving client traffic"):
				p.client <- entry.Address
			case entry.Level == "fatal" || entry.Level == "error":
				p.last = entry.Msg + ": " + entry.Error
			}
		} else if len(line) > 0 {
			p.last = strings.TrimSpace(string(line))
		}
		if err != nil {
			return
		}
	}
}

// await waits for an address.
func (p *process) await(address <-chan string) (string, error) {
	select {
	case a := <-address:
		return a, nil
	case <-p.exited:
		return "", fmt.Errorf("etcd has ended: %v: %s", p.cmd.ProcessState, p.last)
	case <-time.After(limit):
		return "", fmt.Errorf("etcd is not ready after %v", limit)
	}
}

// end ends it in order where the system can, and returns when it has ended.
func (p *process) end() {
	if p.cmd.Process.Signal(syscall.SIGTERM) != nil {
		_ = p.cmd.Process.Kill()
	}
	select {
	case <-p.exited:
	case <-time.After(limit):
		p.kill()
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}
