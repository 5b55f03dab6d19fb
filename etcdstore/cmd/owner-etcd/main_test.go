package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner/etcdstore/internal/etcdtest"
	"github.com/ownerlease/owner/internal/cmdtest"
)

// The tests run this test's binary, as the command and as what it runs.
func TestMain(m *testing.M) { cmdtest.Main(m, main, nil) }

// self is the command line that runs this test's binary with a test-… command.
func self(args ...string) []string { return append([]string{cmdtest.Self()}, args...) }

// A process is a started "owner-etcd".
type process struct{ *cmdtest.Process }

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	return &process{cmdtest.Start(t, cmd)}
}

// A server is an etcd, and how a lease there is given to "owner-etcd".
type server struct {
	*etcdtest.Server
	t *testing.T
}

func startServer(t *testing.T, flags ...string) server {
	return server{etcdtest.Start(t, flags...), t}
}

// ttl is short: it is what a test of a crash waits for.
const ttl = 2 * time.Second

func (s server) args(sub, key string, more ...string) []string {
	args := []string{sub, "--endpoints", s.Endpoint(), "--key", key}
	if sub == "run" {
		args = append(args, "--ttl", ttl.String())
	}
	return append(args, more...)
}

func (s server) command(sub, key string, more ...string) *exec.Cmd {
	return cmdtest.Command(s.args(sub, key, more...)...)
}

// hold starts an owner that owns until its stdin is closed.
func (s server) hold(key string, flags ...string) *process {
	s.t.Helper()
	p := start(s.t, s.command("run", key, append(flags, self("test-cat")...)...))
	if got := p.Line(); got != "started" {
		s.t.Fatalf("got %q", got)
	}
	return p
}

// status runs "owner-etcd status" in both forms.
func (s server) status(key, condition string, code int) map[string]any {
	s.t.Helper()
	text, stderr, got := cmdtest.ToItsEnd(s.t, s.command("status", key))
	if got != code || stderr != "" || !strings.HasPrefix(text, "lease      "+key+"\ncondition  "+condition+": ") {
		s.t.Errorf("exit %d, want %d and %s: %s%s", got, code, condition, text, stderr)
	}
	raw, stderr, got := cmdtest.ToItsEnd(s.t, s.command("status", key, "--json"))
	var fields map[string]any
	if err := json.Unmarshal([]byte(raw), &fields); err != nil {
		s.t.Fatalf("%v: %q, %q", err, raw, stderr)
	}
	if got != code || fields["condition"] != condition || fields["lease"] != key || fields["owned"] != (code == 0) {
		s.t.Errorf("exit %d, want %d and %s: %s", got, code, condition, raw)
	}
	return fields
}

func host() string {
	name, _ := os.Hostname()
	return name
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, code := range []int{0, 1, 77, 255} {
		_, stderr, got := cmdtest.ToItsEnd(t, s.command("run", "/free", self("test-exit", strconv.Itoa(code))...))
		if got != code || stderr != "" {
			t.Errorf("exit %d, want %d, and no message: %q", got, code, stderr)
		}
	}
	holder := s.hold("/held")
	for _, c := range []struct {
		flags []string
		code  int
		says  string
	}{
		{[]string{"-n"}, 123, ""},
		{[]string{"-n", "-E", "9"}, 9, ""},
		{[]string{"-w", "800ms"}, 124, "gave up after 800ms: "},
	} {
		_, stderr, code := cmdtest.ToItsEnd(t, s.command("run", "/held", append(c.flags, self("test-exit", "0")...)...))
		says := fmt.Sprintf("owner-etcd: %s/held is owned by pid %d on %s since ", c.says, holder.Cmd.Process.Pid, host())
		if code != c.code || !strings.HasPrefix(stderr, says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, want %d, and one line that begins with %q: %q", c.flags, code, c.code, says, stderr)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	missing := filepath.Join(t.TempDir(), "missing")
	run := func(flags ...string) []string {
		return s.args("run", "/mistake", append(flags, self("test-exit", "0")...)...)
	}
	status := func(flags ...string) []string { return s.args("status", "/mistake", flags...) }
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"nope"}, 125, `there is no command "nope"`},
		{append([]string{"run"}, self()...), 125, "--key is missing (see: owner-etcd run --help)"},
		{[]string{"status"}, 125, "--key is missing (see: owner-etcd status --help)"},
		{[]string{"watch", "--key", "/mistake", "more"}, 125, `"more" is one argument too many`},
		{[]string{"watch", "--key", "/mistake", "--epoch-above", "1"}, 125, "-epoch-above (see: owner-etcd watch --help)"},
		{[]string{"run", "--key", "/mistake"}, 125, "COMMAND is missing"},
		{run("--ttl", "1500ms"), 125, "join etcd key /mistake: invalid configuration: the TTL is 1.5s; on etcd it has to be whole seconds"},
		{run("--ttl", "100ms"), 125, "whole seconds"},
		{run("--grace", "8s"), 125, "a grace of 8s does not fit"},
		{run("--epoch-above", "-1"), 125, "invalid value"},
		{append(s.args("run", "/mistake"), "owner-no-such-command"), 127, "owner-no-such-command"},
		{s.args("status", "/mistake.alive"), 125, "choose another"},
		{status("--endpoints", ","), 125, "--endpoints has no address"},
		{status("--endpoints", "http://a:1,https://b:1"), 125, "http://a:1 would not be encrypted"},
		{status("--cacert", missing), 125, "http://127.0.0.1:"}, // the server's is not https
		{status("--endpoints", "127.0.0.1:1", "--cacert", missing), 125, missing},
		{status("--cert", missing), 125, "--cert and --key-file need each other"},
		{status("--user", "root"), 125, "--user root needs a password in ETCDCTL_PASSWORD"},
		{status("--dial-timeout", "0s"), 125, "--dial-timeout 0s is not positive"},
		{status("--endpoints", "127.0.0.1:1"), 125, "connection refused"},
		{status("--endpoints", "127.0.0.1:1", "--dial-timeout", "200ms"), 125, "connection refused"},
		{status("--endpoints", "127.0.0.1:1", "--dial-timeout", "1s", "--user", "a:b"), 125, "cannot log in to etcd: context deadline exceeded: "},
		{[]string{"revoke"}, 125, "--key is missing (see: owner-etcd revoke --help)"},
		{s.args("revoke", "/mistake"), 3, "/mistake has no owner"},
		{s.args("revoke", "/mistake.alive"), 125, "choose another"},
		{s.args("revoke", "/mistake", "-w", "0s"), 125, "not positive"},
		{s.args("revoke", "/mistake", "--endpoints", "127.0.0.1:1", "--dial-timeout", "200ms"), 125, "connection refused"},
		{s.args("revoke", "/mistake", "--endpoints", "127.0.0.1:1", "-w", "200ms"), 124, "gave up after 200ms: the lease was not taken away"},
		{append(s.args("ensure", "/mistake"), self()...), 125, "--lock is missing"},
		{append(s.args("ensure", "/mistake", "--lock", filepath.Join(t.TempDir(), "lock")), self("test-exit", "9")...), 3, "exit status 9"},
		{run("-n", "--endpoints", "127.0.0.1:1"), 125, "connection refused"},
		{run("-w", "200ms", "--endpoints", "127.0.0.1:1"), 124, "gave up after 200ms: /mistake does not answer"},
	} {
		t.Run(c.says, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := cmdtest.ToItsEnd(t, cmdtest.Command(c.args...))
			if code != c.code || stdout != "" || !strings.HasPrefix(stderr, "owner-etcd: ") || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%q: exit %d, want %d, and one line with %q on stderr: %q; stdout: %q", c.args, code, c.code, c.says, stderr, stdout)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for args, wants := range map[string][]string{
		"":              {"owner-etcd run --endpoints", "122 ", "EXIT CODES of watch"},
		"run --help":    {"--key KEY [--] COMMAND", "--ttl", "--epoch-above", "ETCDCTL_ENDPOINTS", "KEY.alive", "122 "},
		"status --help": {"--json", "--key-file FILE", "ETCDCTL_PASSWORD", "125 "},
		"revoke --help": {"--wait", "--key-file FILE", "124 ", "had no owner"},
		"watch --help":  {"--json", "--cacert FILE", "128+n"},
	} {
		stdout, stderr, code := cmdtest.ToItsEnd(t, cmdtest.Command(strings.Fields(args)...))
		for _, want := range wants {
			if code != 0 || stderr != "" || !strings.Contains(stdout, want) {
				t.Errorf("owner-etcd %s: exit %d; is %q there? %s%s", args, code, want, stdout, stderr)
			}
		}
	}
}

func TestCommandKnowsItsLease(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	out, stderr, code := cmdtest.ToItsEnd(t, s.command("run", "/gpu 0", append([]string{"--epoch-above", "1700000000000"}, self("test-env")...)...))
	f := strings.Fields(strings.TrimPrefix(out, "/gpu 0 "))
	if code != 0 || !strings.HasPrefix(out, "/gpu 0 ") || len(f) != 2 || len(f[0]) != 36 {
		t.Fatalf("exit %d, %q; %s", code, out, stderr)
	}
	if epoch, err := strconv.ParseUint(f[1], 10, 64); err != nil || epoch <= 1700000000000 || epoch > 1700000001000 {
		t.Errorf("OWNER_EPOCH is %s", f[1])
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	none := s.status("/k", "none", 3)
	p := s.hold("/k", "--endpoint", "127.0.0.1:1", "--meta", "k=v,w=x", "--ttl", "20s")
	live := s.status("/k", "live", 0)
	text, _ := live["remaining"].(string)
	left, err := time.ParseDuration(text)
	if err != nil || left < 15*time.Second || left > 20*time.Second || live["ttl"] != "20s" || live["expires"] == nil || live["pid"] != float64(p.Cmd.Process.Pid) ||
		live["host"] != host() || live["endpoint"] != "127.0.0.1:1" || live["meta"].(map[string]any)["k"] != "v,w=x" || live["epoch"] == 0.0 {
		t.Errorf("got %v", live)
	}
	_ = p.Stdin.Close()
	p.MustExit(0, "")
	s.status("/k", "none", 3)

	if _, err := s.Client(t).Put(t.Context(), "/k", "not a record"); err != nil {
		t.Fatal(err)
	}
	unreadable := s.status("/k", "unreadable", 4)
	if says, _ := unreadable["error"].(string); !strings.Contains(says, `"/k"`) {
		t.Errorf("got %v", unreadable)
	}
	if len(none) != len(live) || len(none) != len(unreadable) {
		t.Errorf("the keys differ: %v, %v, %v", none, live, unreadable)
	}
}

// what is a line of "owner-etcd watch" without its time.
func (p *process) what() string {
	p.T.Helper()
	_, what, _ := strings.Cut(p.Line(), "  ")
	return what
}

func (p *process) mustSay(begin string) {
	p.T.Helper()
	if got := p.what(); !strings.HasPrefix(got, begin) {
		p.T.Errorf("got %q, want %q", got, begin)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	people, programs := start(t, s.command("watch", "/k")), start(t, s.command("watch", "/k", "--json"))
	next := func(says string, owned any) map[string]any {
		t.Helper()
		people.mustSay(says)
		line, fields := programs.Line(), map[string]any{}
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["owned"] != owned || fields["lease"] != "/k" {
			t.Errorf("%v: %s", err, line)
		}
		return fields
	}
	next("it has no owner", false)
	for range 2 {
		holder := s.hold("/k", "--endpoint", "here")
		who := fmt.Sprintf("pid %d on %s", holder.Cmd.Process.Pid, host())
		if got := next(who+" owns it, epoch ", true); got["pid"] != float64(holder.Cmd.Process.Pid) || got["endpoint"] != "here" {
			t.Errorf("%v", got)
		}
		_ = holder.Stdin.Close()
		holder.MustExit(0, "")
		if got := next("it has no owner: "+who+" owned it for ", false); got["pid"] != nil || got["owned_for"] == nil {
			t.Errorf("%v", got)
		}
	}
	s.Stop()
	for _, p := range []*process{people, programs} {
		if line := p.Line(); !strings.Contains(line, "watch etcd key /k: ") {
			t.Errorf("got %q", line)
		}
	}
	s.Start()
	for _, p := range []*process{people, programs} {
		line := p.Line()
		for strings.Contains(line, "watch etcd key /k: ") { // it has received the reason
			if !strings.Contains(line, "connection refused") {
				t.Errorf("got %q", line)
			}
			line = p.Line()
		}
		if !strings.HasSuffix(line, "it has no owner") && !strings.Contains(line, `"owned":false`) {
			t.Errorf("got %q", line)
		}
	}
}

// COMMAND outlives its owner for a moment: no witness ends the ownership when that dies.
func TestOwnerIsUnwitnessed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := s.hold("/k")
	resp, err := s.Client(t).Get(t.Context(), "/k")
	if err != nil || len(resp.Kvs) != 1 || !strings.Contains(string(resp.Kvs[0].Value), "instance_id") || strings.Contains(string(resp.Kvs[0].Value), `"process"`) {
		t.Errorf("%v, %v", resp, err)
	}
	_ = p.Stdin.Close()
	p.MustExit(0, "")
}

func TestHandover(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	first := s.hold("/k")
	before := s.status("/k", "live", 0)
	second := start(t, s.command("run", "/k", append([]string{"--quiet", "--wait", cmdtest.Limit.String()}, self("test-cat")...)...))
	_ = first.Stdin.Close()
	first.MustExit(0, "")
	if got := second.Line(); got != "started" {
		t.Errorf("got %q", got)
	}
	after := s.status("/k", "live", 0)
	if after["pid"] != float64(second.Cmd.Process.Pid) || after["epoch"].(float64) <= before["epoch"].(float64) {
		t.Errorf("after %v came %v", before, after)
	}
	_ = second.Stdin.Close()
	second.MustExit(0, "")
}

// A waiting command reports why it takes so long, and continues when etcd is back.
func TestWaitsForEtcd(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.Stop()
	s.waits("connection refused", s.Start)
}

// The same, and for room in an etcd whose quota is used up.
func TestWaitsForRoom(t *testing.T) {
	t.Parallel()
	s := startServer(t, etcdtest.Quota(2<<20))
	c := s.Client(t)
	etcdtest.Fill(t, c)
	s.waits("space quota is used up", func() { etcdtest.MakeRoom(t, c) })
}

// waits starts a command that waits for that reason, until mend has been called.
func (s server) waits(reason string, mend func()) {
	t := s.t
	t.Helper()
	cmd := s.command("run", "/k", append([]string{"--wait", cmdtest.Limit.String()}, self("test-cat")...)...)
	r, w := io.Pipe()
	cmd.Stderr = w
	p := start(t, cmd)
	stderr := bufio.NewReader(r)
	line, err := stderr.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "owner-etcd: still waiting: ") || !strings.Contains(line, reason) {
		t.Errorf("%q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	mend()
	if got := p.Line(); got != "started" {
		t.Errorf("got %q", got)
	}
	_ = p.Stdin.Close()
	p.MustExit(0, "")
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	holder := s.hold("/k")
	second := start(t, s.command("run", "/k", append([]string{"--quiet", "--wait", cmdtest.Limit.String()}, self("test-cat")...)...))
	out, stderr, code := cmdtest.ToItsEnd(t, s.command("revoke", "/k"))
	says := fmt.Sprintf("revoked: pid %d on %s since ", holder.Cmd.Process.Pid, host())
	if code != 0 || !strings.HasPrefix(out, says) || !strings.Contains(out, ", epoch ") || strings.Count(out, "\n") != 1 || stderr != "" {
		t.Errorf("exit %d, %q, want %q; %s", code, out, says, stderr)
	}
	holder.MustExit(122, "owner-etcd: lost the lease, and ended COMMAND: lease revoked")
	if got := second.Line(); got != "started" {
		t.Errorf("got %q", got)
	}
	_ = second.Stdin.Close()
	second.MustExit(0, "")
	out, stderr, code = cmdtest.ToItsEnd(t, s.command("revoke", "/k"))
	if code != 3 || out != "" || stderr != "owner-etcd: /k has no owner\n" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
}
