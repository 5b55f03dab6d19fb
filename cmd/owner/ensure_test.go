package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/cmdtest"
)

// ensured returns the arguments that have an owner started, which ends with the test.
func ensured(t *testing.T, lease string, flags ...string) []string {
	t.Helper()
	t.Cleanup(func() {
		if st, err := owner.Probe(lease); err == nil && st.Owned() {
			p, err := os.FindProcess(st.Record.PID)
			if err == nil {
				_ = p.Kill()
			}
			eventually(t, "the owner ends", func() bool {
				st, err := owner.Probe(lease)
				return err == nil && !st.Owned()
			})
		}
	})
	args := append([]string{"ensure", "--lease", lease, "--timeout", cmdtest.Limit.String()}, flags...)
	return append(args, "--", self(), "run", "--lease", lease, "--endpoint", "unix:/there", self(), "test-linger")
}

// The owner lives on, while the output of the command, which a shell may be reading, ends.
func TestEnsure(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	out, stderr, code := ownerCommand(t, ensured(t, lease)...)
	if code != 0 || stderr != "" || !strings.Contains(out, "endpoint   unix:/there\n") {
		t.Fatalf("exit %d, %q, %q", code, out, stderr)
	}
	st, err := owner.Probe(lease)
	if err != nil || st.Condition != owner.Live {
		t.Fatalf("%+v, %v", st, err)
	}
	out, stderr, code = ownerCommand(t, "ensure", "--json", "--lease", lease, "/there/is/none")
	var rec owner.Record
	if err := json.Unmarshal([]byte(out), &rec); err != nil || code != 0 || rec.InstanceID != st.Record.InstanceID {
		t.Errorf("exit %d, %v: %q, %q", code, err, out, stderr)
	}
	if !strings.Contains(out, `"condition":"live"`) || !strings.Contains(out, `"endpoint":"unix:/there"`) {
		t.Error(out)
	}
	// The lock beside the lease is no lease.
	if out, _, code := ownerCommand(t, "list", filepath.Dir(lease)); code != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestEnsureByMany(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	args := ensured(t, lease, "--json")
	outs := make([]string, 10)
	var wg sync.WaitGroup
	for i := range outs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b, err := command(args...).Output()
			if err != nil {
				t.Errorf("%v: %s", err, b)
			}
			outs[i] = string(b)
		}()
	}
	wg.Wait()
	var first owner.Record
	if err := json.Unmarshal([]byte(outs[0]), &first); err != nil {
		t.Fatal(err, outs[0])
	}
	for _, out := range outs {
		if !strings.Contains(out, first.InstanceID) {
			t.Errorf("not %s: %s", first.InstanceID, out)
		}
	}
}

func TestEnsureThatFails(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct {
		flags, args []string
		code        int
		says        string
	}{
		{nil, []string{"test-exit", "9"}, 3, "exit status 9"},
		{nil, []string{"test-exit", "9"}, 3, "give a log file"},
		{[]string{"--log", log}, []string{"run", "--ttl", "0"}, 3, "its output ends: --lease is missing"},
		{[]string{"--timeout", "0.3"}, []string{"test-linger"}, 124, "was ended"},
		{[]string{"--timeout", "0.3"}, []string{"test-exit", "0"}, 124, "exit status 0"},
	} {
		lease := leaseIn(t)
		args := append(append([]string{"ensure", "--lease", lease}, c.flags...), self())
		out, stderr, code := ownerCommand(t, append(args, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(stderr, c.says) || !strings.HasPrefix(stderr, "owner: ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, want %d, and one line with %q: %q, %q", c.args, code, c.code, c.says, stderr, out)
		}
	}
}

// An owner without an endpoint is ready if the caller says so.
func TestEnsureWithoutEndpoint(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	hold(t, lease)
	if _, stderr, code := ownerCommand(t, "ensure", "--lease", lease, "--timeout", "0.1", self()); code != 124 || !strings.Contains(stderr, "advertised no endpoint") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	if out, stderr, code := ownerCommand(t, "ensure", "--lease", lease, "--no-endpoint", self()); code != 0 || !strings.Contains(out, "live") {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
}

// COMMAND's environment names its lease, and none that this command may run under.
func TestEnsureEnvironment(t *testing.T) {
	t.Parallel()
	lease, log := leaseIn(t), filepath.Join(t.TempDir(), "log")
	cmd := command("ensure", "--lease", lease, "--log", log, "--timeout", "0.3", self(), "test-env")
	cmd.Env = append(cmd.Env, "OWNER_LEASE=/other", "OWNER_INSTANCE_ID=other", "OWNER_EPOCH=7")
	if _, code := startCommand(t, cmd).Wait(); code != 124 { // it ends with status 0, and owns nothing
		t.Errorf("exit %d", code)
	}
	if b, err := os.ReadFile(log); err != nil || strings.TrimSpace(string(b)) != lease {
		t.Errorf("%q, %v", b, err)
	}
}

// A signal ends the wait, and leaves COMMAND.
func TestEnsureIsInterrupted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("needs signals")
	}
	lease := leaseIn(t)
	hold(t, lease)
	p := start(t, "ensure", "--lease", lease, self())
	time.Sleep(100 * time.Millisecond) // it waits for the owner to be ready, most likely
	_ = p.Cmd.Process.Signal(os.Interrupt)
	if out, code := p.Wait(); code != 130 || out != "" {
		t.Errorf("exit %d, %q, %q", code, out, &p.Stderr)
	}
}
