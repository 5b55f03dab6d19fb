//go:build unix

package ownergrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/ownerlease/owner"
)

const (
	serverLease   = "OWNERGRPC_TEST_LEASE" // makes this test's binary a server
	serverJournal = "OWNERGRPC_TEST_JOURNAL"
)

func init() {
	serveIfStarted = func() bool {
		if os.Getenv(serverLease) == "" {
			return false
		}
		if err := serveProcess(); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return true
	}
}

// serveProcess is a process that serves while it owns. It writes each call to a journal
// before it does anything else; what the kernel has taken of that outlives the process.
func serveProcess() error {
	journal, err := os.OpenFile(os.Getenv(serverJournal), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // the test's end is this process's
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	cfg := owner.Config{LeasePath: os.Getenv(serverLease), TTL: ttl}
	return owner.Run(ctx, cfg, func(ctx context.Context, o *owner.Owner) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		t := &talker{said: map[string]int{}, say: func(_ context.Context, said string) (string, error) {
			_, err := fmt.Fprintln(journal, said)
			time.Sleep(time.Millisecond) // the work in which a kill meets it
			return "", err
		}}
		server := grpc.NewServer(grpc.UnaryInterceptor(UnaryServerInterceptor(o)))
		server.RegisterService(&talk, t)
		defer context.AfterFunc(o.Context(), server.Stop)()
		defer context.AfterFunc(ctx, server.GracefulStop)()
		if err := o.Advertise(ctx, "tcp:"+l.Addr().String(), nil); err != nil {
			return err
		}
		return server.Serve(l)
	})
}

// startServer starts a process that serves while it owns.
func startServer(t *testing.T, lease, journal string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverLease+"="+lease, serverJournal+"="+journal)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// Owners are killed under calls. Idempotent calls do not fail. Of the others, the outcome
// of those in progress is unknown; all others are answered, and none has run twice.
func TestKilledUnderCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: run it without -short")
	}
	dir := t.TempDir()
	lease := filepath.Join(dir, "lease")
	s, err := owner.FileStore(lease)
	must(t, err)
	idempotent := Retry{Idempotent: func(string) bool { return true }}
	var c callers
	for i, r := range []Retry{idempotent, {}, {}} {
		cc := dialStore(t, s, r)
		c.start(t, cc, fmt.Sprint(i), i == 0)
	}
	const kills = 5
	var journals []string
	var next *exec.Cmd
	for i := range kills + 1 {
		journals = append(journals, filepath.Join(dir, fmt.Sprint("journal", i)))
		now := next
		next = startServer(t, lease, journals[i])
		if now != nil {
			c.awaitMore(t)
			must(t, now.Process.Kill())
		}
	}
	c.awaitMore(t)
	c.end()
	ran := map[string]int{}
	for _, j := range journals {
		b, err := os.ReadFile(j)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for said := range strings.Lines(string(b)) {
			ran[strings.TrimSpace(said)]++
		}
	}
	c.judge(t, ran)
}

// callers make calls, and note what they are told.
type callers struct {
	stop     atomic.Bool
	answered atomic.Int64
	all      sync.WaitGroup

	mu    sync.Mutex
	calls map[string]error
}

func (c *callers) start(t *testing.T, cc *grpc.ClientConn, name string, idempotent bool) {
	c.all.Go(func() {
		for i := 0; !c.stop.Load(); i++ {
			what := fmt.Sprint(name, "/", i)
			if idempotent {
				what = "again/" + what
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err := say(ctx, cc, what)
			cancel()
			if err == nil {
				c.answered.Add(1)
			}
			c.mu.Lock()
			if c.calls == nil {
				c.calls = map[string]error{}
			}
			c.calls[what] = err
			c.mu.Unlock()
		}
	})
}

// awaitMore waits until more calls have been answered, by whatever owner there is now.
func (c *callers) awaitMore(t *testing.T) {
	t.Helper()
	const more = 300
	enough := c.answered.Load() + more
	for deadline := time.Now().Add(20 * time.Second); c.answered.Load() < enough; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no answers")
		}
	}
}

func (c *callers) end() {
	c.stop.Store(true)
	c.all.Wait()
}

func (c *callers) judge(t *testing.T, ran map[string]int) {
	t.Helper()
	for what, err := range c.calls {
		again := strings.HasPrefix(what, "again/")
		switch n := ran[what]; {
		case again && err != nil:
			t.Errorf("the idempotent call %s: %v", what, err)
		case err == nil && n == 0:
			t.Errorf("the call %s was answered, and has not run", what)
		case !again && n > 1:
			t.Errorf("the call %s has run %d times", what, n)
		case err != nil && !errors.Is(err, ErrOutcomeUnknown):
			t.Errorf("the call %s: %v; want an answer or an unknown outcome", what, err)
		}
	}
}
