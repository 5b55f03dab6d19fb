// Package cmdtest has what the tests of the commands share: the test's own binary runs as
// the command, and as what the command runs.
package cmdtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ownerlease/owner/cmdline"
)

// Limit is how long anything may take before a test fails. Nothing waits for it.
const Limit = 30 * time.Second

const asCommand = "OWNER_TEST"

// Main is for TestMain. command is the main function of the command; programs are more
// test-… commands than test-exit, test-env and test-cat.
func Main(m *testing.M, command func(), programs map[string]func(args []string)) {
	if os.Getenv(asCommand) == "" {
		heedSignals()
		os.Exit(m.Run())
	}
	cmdline.RunHelperIfRequested() // what starts a test-… command is called like it
	if len(os.Args) > 1 {
		runProgram(os.Args[1], os.Args[2:], programs)
	}
	command()
}

func runProgram(name string, args []string, programs map[string]func([]string)) {
	switch name {
	case "test-exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "test-env":
		fmt.Println(os.Getenv("OWNER_LEASE"), os.Getenv("OWNER_INSTANCE_ID"), os.Getenv("OWNER_EPOCH"))
		os.Exit(0)
	case "test-cat":
		fmt.Println("started")
		_, _ = io.Copy(os.Stdout, os.Stdin)
		os.Exit(0)
	}
	if program, ok := programs[name]; ok {
		program(args)
		os.Exit(0)
	}
}

// Self is the path of what runs as the command, and as the test-… commands.
var Self = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
})

// Command is the command with these arguments.
func Command(args ...string) *exec.Cmd { return Prepare(exec.Command(Self(), args...)) }

// Prepare makes a program run the command, if it starts this test's binary.
func Prepare(cmd *exec.Cmd) *exec.Cmd {
	// With the race detector, a process sleeps for a second before it exits.
	cmd.Env = append(os.Environ(), asCommand+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.WaitDelay = Limit
	isolate(cmd)
	return cmd
}

// A Process is a started program.
type Process struct {
	T      *testing.T
	Cmd    *exec.Cmd
	Stdin  io.WriteCloser
	Out    io.Closer // closes Stdout
	Stdout *bufio.Reader
	Stderr Output
}

// An Output can be read while it grows.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Len is its length in bytes.
func (o *Output) Len() int { return len(o.String()) }

// Start starts a program. Its stderr goes to Stderr unless cmd says otherwise.
func Start(t *testing.T, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{T: t, Cmd: cmd}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.Stderr
	}
	var err error
	if p.Stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Out, p.Stdout = out, bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(Limit, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		stuck.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

// ToItsEnd runs a program without input.
func ToItsEnd(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	p := Start(t, cmd)
	_ = p.Stdin.Close()
	stdout, code = p.Wait()
	return stdout, p.Stderr.String(), code
}

// Line returns the next line of stdout.
func (p *Process) Line() string {
	p.T.Helper()
	s, err := p.Stdout.ReadString('\n')
	if err != nil {
		p.T.Fatalf("reading stdout: %v (got %q); stderr: %s", err, s, &p.Stderr)
	}
	return strings.TrimSuffix(s, "\n")
}

// Types writes to stdin.
func (p *Process) Types(s string) {
	p.T.Helper()
	if _, err := io.WriteString(p.Stdin, s); err != nil {
		p.T.Fatal(err)
	}
}

// Wait returns the rest of stdout, and the exit code as shells say it: 128+n for signal n.
func (p *Process) Wait() (string, int) {
	p.T.Helper()
	out, err := io.ReadAll(p.Stdout)
	if err != nil {
		p.T.Fatal(err)
	}
	_ = p.Cmd.Wait()
	return string(out), ShellCode(p.Cmd.ProcessState)
}

// MustExit demands an exit code, and one line on stderr that contains this, or none for "".
func (p *Process) MustExit(code int, stderr string) {
	p.T.Helper()
	out, got := p.Wait()
	text := p.Stderr.String()
	if got != code || !strings.Contains(text, stderr) || (stderr == "") != (text == "") || strings.Count(text, "\n") > 1 {
		p.T.Errorf("exit %d, want %d, and %q on stderr: %q; stdout: %q", got, code, stderr, text, out)
	}
}
