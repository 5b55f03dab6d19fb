package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/cmdtest"
)

// The tests run this test's binary, as the command and as what it runs.
func TestMain(m *testing.M) { cmdtest.Main(m, main, testPrograms) }

var testPrograms = map[string]func(args []string){
	"test-args":             func(args []string) { fmt.Printf("%q\n", args) },
	"test-signals":          testSignals,
	"test-notify":           testNotify,
	"test-become-root":      testBecomeRoot,
	"test-count-interrupts": testCountInterrupts,
	"test-linger":           func([]string) { time.Sleep(time.Minute) }, // owner ensure has started it
}

// testBecomeRoot is for where this program is setuid root.
func testBecomeRoot([]string) {
	err := becomeRoot()
	fmt.Println(os.Geteuid(), os.Getpid(), err)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// testCountInterrupts counts those within a moment of the first.
func testCountInterrupts([]string) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt)
	fmt.Println("ready")
	<-signals
	time.Sleep(300 * time.Millisecond)
	fmt.Println("interrupts:", 1+len(signals))
}

// testSignals prints these signals when it gets them, until it reads its exit code. It
// does what a shell's traps cannot: a signal that comes right before dash
// waits in read is noticed only when something has been read.
func testSignals(numbers []string) {
	signals := make(chan os.Signal, 64)
	for _, text := range numbers {
		number, _ := strconv.Atoi(text)
		signal.Notify(signals, syscall.Signal(number))
	}
	fmt.Println("ready")
	go func() {
		for sig := range signals {
			fmt.Printf("%d\n", sig)
		}
	}()
	var code int
	_, _ = fmt.Scanln(&code)
	os.Exit(code)
}

// testNotify sends each line of stdin, a string in Go's syntax, as one message.
func testNotify([]string) {
	fmt.Println(os.Getenv("NOTIFY_SOCKET"))
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		text, err := strconv.Unquote(lines.Text())
		if err == nil {
			_, err = conn.Write([]byte(text))
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("sent")
	}
}

// self is the path of what runs as "owner", and as the test-… commands.
func self() string { return cmdtest.Self() }

func command(args ...string) *exec.Cmd { return cmdtest.Command(args...) }

// A process is a started "owner".
type process struct{ *cmdtest.Process }

func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startCommand(t, command(args...))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	return &process{cmdtest.Start(t, cmd)}
}

// ownerCommand runs "owner" to its end.
func ownerCommand(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return cmdtest.ToItsEnd(t, command(args...))
}

func leaseIn(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "lease")
}

// hold starts an owner that owns until its stdin is closed.
func hold(t *testing.T, lease string, args ...string) *process {
	t.Helper()
	p := start(t, append(append([]string{"run", "--lease", lease}, args...), self(), "test-cat")...)
	if got := p.Line(); got != "started" {
		t.Fatalf("got %q", got)
	}
	return p
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(cmdtest.Limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestCommandsExitCodeIsPassedOn(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 1, 77, 125, 255} {
		_, stderr, got := ownerCommand(t, "run", "--lease", leaseIn(t), self(), "test-exit", strconv.Itoa(code))
		if got != code || stderr != "" {
			t.Errorf("exit %d, want %d, and no message: %q", got, code, stderr)
		}
	}
}

func TestCommandKnowsItsLease(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	out, _, _ := ownerCommand(t, "run", "--lease", lease, self(), "test-env")
	rec, err := owner.Inspect(lease)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%s %s %d\n", lease, rec.InstanceID, rec.Epoch); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestRelativeLeaseIsMadeAbsolute(t *testing.T) {
	t.Parallel()
	cmd := command("run", "--lease", "lease", self(), "test-env")
	cmd.Dir = t.TempDir()
	out, _ := startCommand(t, cmd).Wait()
	if path, _, _ := strings.Cut(out, " "); !filepath.IsAbs(path) || filepath.Base(path) != "lease" {
		t.Errorf("OWNER_LEASE is %q", path)
	}
}

func TestFlagsBehindCommandAreCommands(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-n"}, {"--lease", "x"}, {"--", "-n"}, {"", "-c", ""}, {"--help"}, {"-E", "--"}, {" -- ", "a"},
	} {
		for _, dashes := range [][]string{nil, {"--"}} {
			all := slices.Concat([]string{"run", "-n", "--lease=" + leaseIn(t), "--ttl", "10s"}, dashes, []string{self(), "test-args"}, args)
			out, stderr, code := ownerCommand(t, all...)
			if want := fmt.Sprintf("%q\n", args); out != want || code != 0 {
				t.Errorf("COMMAND got %s, want %s; exit %d: %s", out, want, code, stderr)
			}
		}
	}
}

func TestConflictAndTimeout(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	holder := hold(t, lease)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-n"}, 123, ""},
		{[]string{"--nonblock", "-E", "9"}, 9, ""},
		{[]string{"-w", "100ms"}, 124, "gave up after 100ms: "},
		{[]string{"-nE", "9"}, 9, ""},
		{[]string{"-w", "0"}, 123, ""},
		{[]string{"-x", "-n", "-E", "0"}, 0, ""},
		{[]string{"-w", "0.1"}, 124, "gave up after 100ms: "},
		{[]string{"--wait", "100ms", "--conflict-exit-code", "1"}, 1, "gave up after 100ms: "},
	} {
		_, stderr, code := ownerCommand(t, append(append([]string{"run", "--lease", lease}, c.args...), self(), "test-exit", "0")...)
		host, _ := os.Hostname()
		says := fmt.Sprintf("owner: %s%s is owned by pid %d on %s since ", c.says, lease, holder.Cmd.Process.Pid, host)
		if code != c.code || !strings.HasPrefix(stderr, says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, want %d, and one line that begins with %q: %q", c.args, code, c.code, says, stderr)
		}
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	hold(t, lease)
	for flag, code := range map[string]int{"-n": 123, "-w=0.05": 124} {
		out, stderr, got := ownerCommand(t, "run", "--lease", lease, flag, "-q", self(), "test-exit", "0")
		if got != code || out != "" || stderr != "" {
			t.Errorf("%s: exit %d, want %d and no output: %q, %q", flag, got, code, out, stderr)
		}
	}
	// What this program itself fails with is still printed.
	if _, stderr, code := ownerCommand(t, "run", "--lease", lease, "-q", "--ttl", "0", self()); code != 125 || stderr == "" {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func TestWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	first := hold(t, lease)
	before, err := owner.Inspect(lease)
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, "run", "--lease", lease, "--quiet", "--wait", cmdtest.Limit.String(), self(), "test-env")
	_ = first.Stdin.Close()
	if out, code := first.Wait(); code != 0 {
		t.Fatalf("the first: exit %d, %q", code, out)
	}
	out, code := second.Wait()
	after, err := owner.Inspect(lease)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%s %s %d\n", lease, after.InstanceID, after.Epoch); code != 0 || out != want || after.Epoch <= before.Epoch {
		t.Errorf("exit %d, %q, want %q, and an epoch above %d; %s", code, out, want, before.Epoch, &second.Stderr)
	}
}

func TestStdinAndStdoutAreInherited(t *testing.T) {
	t.Parallel()
	p := hold(t, leaseIn(t))
	p.Types("hello\n")
	if got := p.Line(); got != "hello" {
		t.Errorf("got %q", got)
	}
	_ = p.Stdin.Close()
	if out, code := p.Wait(); out != "" || code != 0 || p.Stderr.Len() > 0 {
		t.Errorf("got %q, exit %d, %q", out, code, &p.Stderr)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	folder := t.TempDir()
	run := func(args ...string) []string {
		return append(append([]string{"run", "--lease", lease}, args...), self(), "test-exit", "0")
	}
	ensure := func(args ...string) []string { return append([]string{"ensure", "--lease", lease}, args...) }
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"nope"}, 125, `there is no command "nope"`},
		{[]string{"--nope"}, 125, "-nope (see: owner --help)"},
		{[]string{"run", self()}, 125, "--lease is missing (see: owner run --help)"},
		{[]string{"run", "--lease"}, 125, "needs an argument"},
		{[]string{"run", "--lease", lease}, 125, "COMMAND is missing"},
		{[]string{"run", "--lease", lease, "--"}, 125, "COMMAND is missing"},
		{run("--nope"), 125, "-nope (see: owner run --help)"},
		{run("-n", "-w", "1s"), 125, "exclude each other"},
		{run("-w", "-1"), 125, "cannot be negative"},
		{run("-w", "1e9"), 125, `invalid duration "1e9"`},
		{run("-w", ""), 125, `invalid duration ""`},
		{run("-w", "99999999999"), 125, `invalid duration "99999999999"`},
		{run("-w", "soon"), 125, `invalid duration "soon"`},
		{run("-E", "-1"), 125, "not between 0 and 255"},
		{run("-E", "300"), 125, "not between 0 and 255"},
		{run("--lease", lease), 125, "can't duplicate this flag"},
		{run("-c", "true"), 125, "-c and COMMAND exclude each other"},
		{[]string{"run", "--lease", lease, "-c", ""}, 125, "-c is empty"},
		{run("-q", "--verbose"), 125, "exclude each other"},
		{run("-s"), 125, "-s (shared) is not supported: a lease has one owner"},
		{run("-u"), 125, "owner revoke"},
		{run("--close"), 125, "-o (close) is not supported"},
		{run("-F"), 125, "must be renewed"},
		{run("--meta", "a"), 125, `item "a" is missing separator "="`},
		{run("--meta", "a="+strings.Repeat("x", 5000)), 125, "metadata too large"},
		{run("--ttl", "0"), 125, "TTL is 0s"},
		{run("--ttl", "-1s"), 125, "cannot be negative"},
		{run("--grace", "8s"), 125, "a grace of 8s does not fit: with a ttl of 10s, 0s to 5.666s does; it needs a ttl of 14.2s"},
		{run("--grace", "9000000000"), 125, "a grace of 2500000h0m0s does not fit: with a ttl of 10s, 0s to 5.666s does\n"},
		{run("--mode", "rw"), 125, `--mode "rw" is not an octal mode`},
		{run("--mode", "0"), 125, "lets no user write"},
		{run("--mode", "0444"), 125, "FileMode is 0444, with which no user may write"},
		{run("--mode", "755"), 125, "FileMode is 0755, with permissions to execute"},
		{run("--mode", "4600"), 125, "FileMode is 04600, with bits that are not permissions"},
		{run("--grace", "-1s"), 125, "cannot be negative"},
		{[]string{"run", "--lease", lease, folder}, 126, folder},
		{[]string{"run", "--lease", folder, self(), "test-exit", "0"}, 125, "folder"},
		{[]string{"run", "--lease", filepath.Join(folder, "a", "b"), self(), "test-exit", "0"}, 125, "the lease's folder must exist"},
		{[]string{"run", "--lease", lease, "owner-no-such-command"}, 127, "owner-no-such-command"},
		{[]string{"run", "--lease", lease, filepath.Join(folder, "nope")}, 127, "nope"},
		{[]string{"status"}, 125, "--lease is missing (see: owner status --help)"},
		{[]string{"status", "--lease", lease, "more"}, 125, `"more" is one argument too many`},
		{[]string{"status", "--lease", folder}, 125, "folder"},
		{[]string{"list"}, 125, "DIR is missing (see: owner list --help)"},
		{[]string{"list", folder, "more"}, 125, `"more" is one argument too many`},
		{[]string{"list", filepath.Join(folder, "nope")}, 125, "nope"},
		{[]string{"list", "--lease", lease}, 125, "-lease (see: owner list --help)"},
		{[]string{"watch"}, 125, "--lease is missing (see: owner watch --help)"},
		{[]string{"watch", "--lease", lease, "more"}, 125, `"more" is one argument too many`},
		{[]string{"revoke"}, 125, "--lease is missing (see: owner revoke --help)"},
		{[]string{"revoke", "--lease", lease, "-w", "0s"}, 125, "not positive"},
		{[]string{"revoke", "--lease", lease, "--json"}, 125, "-json (see: owner revoke --help)"},
		{[]string{"revoke", "--lease", filepath.Join(folder, "a", "b")}, 125, "the lease's folder must exist"},
		{[]string{"ensure", self()}, 125, "--lease is missing (see: owner ensure --help)"},
		{ensure(), 125, "COMMAND is missing"},
		{ensure("--"), 125, "COMMAND is missing"},
		{ensure(""), 125, "COMMAND is missing"},
		{ensure("--timeout", "0", self()), 125, "--timeout 0 leaves no time"},
		{ensure("--timeout", "-1s", self()), 125, "cannot be negative"},
		{ensure("--timeout", "soon", self()), 125, `invalid duration "soon"`},
		{ensure("--log", "", self()), 125, "need the path of a file"},
		{ensure("--lock", "", self()), 125, "need the path of a file"},
		{ensure("--log", lease, self()), 125, lease + ", a file of the Log, is a file of the lease"},
		{ensure("--lock", lease, self()), 125, "the Lock " + lease + " is a file of the lease"},
		{ensure("--ttl", "1s", self()), 125, "-ttl (see: owner ensure --help)"},
		{ensure("owner-no-such-command"), 127, "owner-no-such-command"},
		{ensure(filepath.Join(folder, "nope")), 127, "nope"},
		{ensure(folder), 126, folder},
		{[]string{"ensure", "--lease", filepath.Join(folder, "a", "b"), self()}, 125, "the lease's folder must exist"},
		{[]string{"demo", "more"}, 125, `"more" is one argument too many`},
		{[]string{"diagram", "more"}, 125, `"more" is one argument too many`},
	} {
		stdout, stderr, code := ownerCommand(t, c.args...)
		if code != c.code || stdout != "" || !strings.HasPrefix(stderr, "owner: ") || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, want %d, and one line with %q on stderr: %q; stdout: %q", c.args, code, c.code, c.says, stderr, stdout)
		}
	}
	for _, untouched := range []string{filepath.Dir(lease), folder} {
		if left, err := os.ReadDir(untouched); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for args, wants := range map[string][]string{
		"":              {"owner run --lease", "122 ", "127 ", "status", "list", "watch", "revoke", "owner list /run/lock", "owner demo"},
		"--help":        {"owner run --lease", "122 ", "127 ", "completion", "EXIT CODES of revoke", "EXIT CODES of demo"},
		"run --help":    {"--lease PATH", "--mode OCTAL", "--kill-hung", "--grace", "--conflict-exit-code", "128+n", "122 ", "OWNER_EPOCH"},
		"status --help": {"--json", "unreadable", "remaining", "expires", "unconfirmed", "revoked"},
		"list --help":   {"--json", "DIR", "125 ", "endpoint"},
		"watch --help":  {"--json", "owned_for", "128+n", "125 "},
		"revoke --help": {"--wait", "124 ", "128+n", "had no owner"},
		"ensure --help": {"--lease PATH", "--timeout DURATION", "--log FILE", "--lock FILE", "--no-endpoint", "--json", "127 ", "128+n"},
		"demo --help":   {"--svg FILE", "125 ", "three processes"},
	} {
		stdout, stderr, code := ownerCommand(t, strings.Fields(args)...)
		for _, want := range wants {
			if code != 0 || stderr != "" || !strings.Contains(stdout, want) {
				t.Errorf("owner %s: exit %d; is %q there? %s%s", args, code, want, stdout, stderr)
			}
		}
		if strings.ContainsAny(stdout, "\x1b\t") || strings.Contains(stdout, "WARDEN") {
			t.Errorf("owner %s: %q", args, stdout)
		}
	}
}

func TestVersionCompletionDiagram(t *testing.T) {
	t.Parallel()
	if out, _, code := ownerCommand(t, "--version"); code != 0 || !strings.HasPrefix(out, "owner version ") {
		t.Errorf("exit %d, %q", code, out)
	}
	out, _, code := ownerCommand(t, "--generate-shell-completion")
	for _, want := range []string{"run", "ensure", "status", "list", "watch", "revoke", "demo", "diagram"} {
		if code != 0 || !strings.Contains(out, want+":") {
			t.Errorf("exit %d; is %q there? %s", code, want, out)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "pwsh"} {
		if out, _, code := ownerCommand(t, "completion", shell); code != 0 || out == "" {
			t.Errorf("%s: exit %d, %q", shell, code, out)
		}
	}
	if out, _, code := ownerCommand(t, "diagram"); code != 0 || out != owner.Diagram() {
		t.Errorf("exit %d, %q", code, out)
	}
}

// status runs "owner status --json".
func status(t *testing.T, lease string) (fields map[string]any, raw string, code int) {
	t.Helper()
	raw, stderr, code := ownerCommand(t, "status", "--json", "--lease", lease)
	if err := json.Unmarshal([]byte(raw), &fields); err != nil {
		t.Fatalf("%v: %q, %q", err, raw, stderr)
	}
	return fields, raw, code
}

// wantStatus checks the condition in both forms of output.
func wantStatus(t *testing.T, lease, condition string, code int) map[string]any {
	t.Helper()
	fields, _, got := status(t, lease)
	if fields["condition"] != condition || got != code || fields["owned"] != (code == 0) {
		t.Errorf("exit %d, want %d and %s: %v", got, code, condition, fields)
	}
	text, stderr, got := ownerCommand(t, "status", "--lease", lease)
	if !strings.Contains(text, "\ncondition  "+condition+": ") || got != code || stderr != "" {
		t.Errorf("exit %d, want %d and %s: %s%s", got, code, condition, text, stderr)
	}
	return fields
}

func TestStatus(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	none := wantStatus(t, lease, "none", 3)

	p := hold(t, lease, "--endpoint", "127.0.0.1:1", "--meta", "k=v,w=x")
	live := wantStatus(t, lease, "live", 0)
	text, _ := live["remaining"].(string)
	remaining, err := time.ParseDuration(text)
	if err != nil || remaining <= 0 || remaining > 10*time.Second || live["ttl"] != "10s" || live["released"] != false || live["pid"] != float64(p.Cmd.Process.Pid) ||
		live["endpoint"] != "127.0.0.1:1" || live["meta"].(map[string]any)["k"] != "v,w=x" {
		t.Errorf("got %v", live)
	}
	text, _ = live["expires"].(string)
	expires, err := time.Parse(time.RFC3339, text)
	if left := time.Until(expires); err != nil || !strings.HasSuffix(text, "Z") || left < -cmdtest.Limit || left > 10*time.Second {
		t.Errorf("expires %q: %v", text, err)
	}
	text, _, _ = ownerCommand(t, "status", "--lease", lease)
	for _, want := range []string{"endpoint   127.0.0.1:1\n", "meta       k=v,w=x\n", fmt.Sprintf("owner      pid %d on ", p.Cmd.Process.Pid), " of 10s), unless it is renewed\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}

	_ = p.Stdin.Close()
	p.Wait()
	released := wantStatus(t, lease, "released", 3)
	if err := os.WriteFile(lease, []byte("not a record"), 0o600); err != nil {
		t.Fatal(err)
	}
	unreadable := wantStatus(t, lease, "unreadable", 4)
	if unreadable["error"] == nil {
		t.Errorf("got %v", unreadable)
	}
	for _, other := range []map[string]any{none, released, unreadable} {
		if len(other) != len(live) {
			t.Errorf("the keys differ: %v, %v", live, other)
		}
	}
}
