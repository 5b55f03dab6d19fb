package owner

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"github.com/ownerlease/owner/internal/clock"
)

// Tests with real processes: the test binary starts itself, and the child obeys
// the commands on its standard input with one line of answer each. A child whose
// parent has gone ends with its input.

const childEnv = "OWNER_TEST_CHILD"

// childLog is the Logger of a child's Owners, if a test has asked for one.
var childLog *slog.Logger

func runChild(path string) int {
	var o *Owner
	var g *guard
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch command, arg, _ := strings.Cut(in.Text(), " "); command {
		case "join", "stand":
			ttl, err := time.ParseDuration(arg)
			if err != nil {
				return 2
			}
			o, err = Join(context.Background(), Config{
				LeasePath: path, TTL: ttl, Endpoint: endpointOf(os.Getpid()), Standby: command == "stand",
				FileMode: childMode(), Logger: childLog,
			})
			if err != nil {
				fmt.Println("error", err)
				continue
			}
			fmt.Println(o.Role(), o.InstanceID(), o.Epoch(), o.Endpoint())
		case "acquire": // and never renew: the lease expires, and this process hangs
			s, err := newFileStore(path)
			if err != nil {
				return 2
			}
			ttl, _ := time.ParseDuration(arg)
			acq, err := s.Acquire(context.Background(), Record{InstanceID: uuid.NewString(), PID: os.Getpid(), TTL: ttl})
			childLeases = append(childLeases, acq.Lease)
			fmt.Println("acquired", acq.Lease != nil, err)
		case "check":
			fmt.Println(o.IsOwner())
		case "hold": // until it does not own; when it last did
			var last time.Duration
			for now := clock.Now(); o.IsOwner(); now = clock.Now() {
				if last == 0 {
					fmt.Println("holding")
				}
				last = now
			}
			fmt.Println(int64(last))
		case "elected":
			<-o.Elected()
			fmt.Println("elected", int64(clock.Now()), o.Epoch())
		case "follows":
			fmt.Println(o.InstanceID(), o.Epoch(), o.Endpoint())
		case "handover":
			fmt.Println(int64(clock.Now()))
			_ = o.Release()
		case "lost":
			<-o.Lost()
			fmt.Println("lost", o.LostErr())
		case "release":
			fmt.Println("released", o.Release())
		case "guard":
			var err error
			if g, err = lockGuard(path); err != nil || g == nil {
				fmt.Println("error", err)
				continue
			}
			fmt.Println("locked")
		case "unguard":
			g.unlock()
			fmt.Println("unlocked")
		case "forks":
			go fork()
			fmt.Println("forking")
		case "spawn": // a child that outlives its parent
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+path)
			cmd.Stdin = os.Stdin
			if err := cmd.Start(); err != nil {
				return 2
			}
			fmt.Println("spawned", cmd.Process.Pid)
		case "why":
			fmt.Println(o.Check())
		case "probe":
			st, err := Probe(path)
			fmt.Println(st.Condition, st.Record.PID, err)
		case "watch":
			for rec, err := range Watch(context.Background(), path) {
				fmt.Println(rec.PID, err)
				break
			}
		case "revoke":
			_, err := Revoke(context.Background(), path)
			fmt.Println(err)
		case "lock": // of any file, as any program can
			l := flock.New(arg, flock.SetFlag(os.O_RDONLY))
			childLocks = append(childLocks, l)
			locked, err := l.TryLock()
			fmt.Println(locked, err)
		}
	}
	return 0
}

var childLeases []Lease

// childLocks are the locks that a child holds: without a reference, they would be closed.
var childLocks []*flock.Flock

const childModeEnv = "OWNER_TEST_MODE"

// childMode is the mode that the child gives its leases.
func childMode() fs.FileMode {
	mode, _ := strconv.ParseUint(os.Getenv(childModeEnv), 8, 16)
	return fs.FileMode(mode)
}

// fork starts processes until the child ends.
func fork() {
	for {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"=-") // its input is empty: it ends at once
		if cmd.Run() != nil {
			return
		}
	}
}

func endpointOf(pid int) string { return fmt.Sprintf("pid:%d", pid) }

type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Scanner
}

func startChild(t testing.TB, path string, change ...func(*exec.Cmd)) *child {
	t.Helper()
	return startCommand(t, exec.Command(os.Args[0]), path, change...)
}

// startCommand starts the child by this command.
func startCommand(t testing.TB, cmd *exec.Cmd, path string, change ...func(*exec.Cmd)) *child {
	t.Helper()
	cmd.Env = append(append(os.Environ(), cmd.Env...), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	stdin, in, err := os.Pipe()
	must(t, err)
	defer stdin.Close()
	cmd.Stdin = stdin
	for _, f := range change {
		f(cmd)
	}
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	c := &child{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(c.end)
	return c
}

// end ends the child, however it is.
func (c *child) end() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// say sends a command; hear waits for the answer; ask does both.
func (c *child) say(command string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, command); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) hear() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatalf("child %d has ended: %v", c.cmd.Process.Pid, c.out.Err())
	}
	return c.out.Text()
}

func (c *child) ask(command string) string {
	c.t.Helper()
	c.say(command)
	return c.hear()
}

func (c *child) mustSay(command, want string) {
	c.t.Helper()
	if got := c.ask(command); !strings.HasPrefix(got, want) {
		c.t.Fatalf("%s: %s, want %s", command, got, want)
	}
}

func TestTwoProcesses(t *testing.T) {
	p := leasePath(t)
	a, b := startChild(t, p), startChild(t, p)
	a.mustSay("join 1m", "owner")
	b.mustSay("join 1m", "follower")
	if want := fmt.Sprintf("pid:%d", a.cmd.Process.Pid); !strings.HasSuffix(b.ask("join 1m"), want) {
		t.Errorf("the follower does not know %s", want)
	}
	a.mustSay("check", "true")
	a.mustSay("release", "released <nil>")
	b.mustSay("join 1m", "owner")
	a.mustSay("check", "false")
	a.mustSay("join 1m", "follower")
}

// Five hundred are measured by lab/scale.
func TestHundredProcesses(t *testing.T) {
	p := leasePath(t)
	children := make([]*child, 100)
	for i := range children {
		children[i] = startChild(t, p)
	}
	for _, c := range children {
		c.say("join 1m")
	}
	owners, holders := 0, map[string]bool{}
	for _, c := range children {
		role, holder, _ := strings.Cut(c.hear(), " ")
		holders[holder] = true
		if role == "owner" {
			owners++
		}
	}
	if owners != 1 || len(holders) != 1 {
		t.Errorf("%d owners; holders as seen: %v", owners, holders)
	}
}

// The kernel frees a dead owner's lock: no TTL to wait for.
func TestKilledOwner(t *testing.T) {
	p := leasePath(t)
	for range 5 {
		c := startChild(t, p)
		c.mustSay("join 1h", "owner")
		must(t, c.cmd.Process.Kill())
		_ = c.cmd.Wait()
	}
	if o := joinFile(t, p); !o.IsOwner() {
		t.Errorf("not free: %+v", o.Holder())
	}
}
