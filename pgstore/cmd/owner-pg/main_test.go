package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/cmdtest"
	"github.com/ownerlease/owner/internal/pgtest"
)

// The tests run this test's binary, as the command and as what it runs.
func TestMain(m *testing.M) {
	cmdtest.Main(m, main, map[string]func([]string){"test-lease": testLease})
}

// testLease prints the lease, and reads until it is ended.
func testLease([]string) {
	fmt.Println(os.Getenv("OWNER_LEASE"))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func self(args ...string) []string { return append([]string{cmdtest.Self()}, args...) }

// says runs "owner-pg" to its end, and compares the code and the begin of what it prints.
func says(t *testing.T, code int, stdout, stderr string, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := cmdtest.Command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	if got := cmdtest.ShellCode(cmd.ProcessState); got != code || !strings.Contains(out.String(), stdout) || !strings.Contains(errs.String(), stderr) ||
		(stderr == "") != (errs.Len() == 0) || strings.Count(errs.String(), "\n") > 1 {
		t.Errorf("%q: exit %d, want %d, and %q, %q: %q, %q", args, got, code, stdout, stderr, &out, &errs)
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	with := func(sub string, more ...string) []string {
		return append([]string{sub, "--dsn", s.DSN(), "--key", "gpu 0"}, more...)
	}
	says(t, 125, "", "run owner-pg setup", with("run", self("test-exit", "0")...)...)
	for range 2 {
		says(t, 0, "", "", "setup", "--dsn", s.DSN())
	}
	says(t, 125, "", "stop all instances", "setup", "--dsn", s.DSN(), "--max-ttl", "5m")
	says(t, 3, "none", "", with("status")...)
	says(t, 77, "", "", with("run", self("test-exit", "77")...)...)
	says(t, 125, "", "1m0s at most", with("run", append([]string{"--ttl", "2m"}, self("test-exit", "0")...)...)...)
	says(t, 3, "", "has no owner", with("revoke")...)

	holder, stderr := hold(t, "gpu 0", with("run", append([]string{"--ttl", "20s", "--endpoint", "here"}, self("test-lease")...)...)...)
	says(t, 0, "live", "", with("status")...)
	says(t, 0, `"endpoint":"here"`, "", with("status", "--json")...)
	says(t, 123, "", fmt.Sprintf("owned by pid %d", holder.Process.Pid), with("run", append([]string{"-n"}, self("test-exit", "0")...)...)...)
	says(t, 0, fmt.Sprintf("revoked: pid %d", holder.Process.Pid), "", with("revoke")...)
	_ = holder.Wait()
	if code := cmdtest.ShellCode(holder.ProcessState); code != 122 || !strings.Contains(stderr.String(), "lease revoked") {
		t.Errorf("the owner: exit %d, %s", code, stderr)
	}
	s.Kill()
	says(t, 125, "", "store unavailable", with("status", "--dial-timeout", "300ms")...)
}

// hold starts a COMMAND that runs until it is ended, and returns when that has begun.
func hold(t *testing.T, key string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := cmdtest.Command(args...)
	in, err := cmd.StdinPipe()
	must(t, err)
	t.Cleanup(func() { _ = in.Close() })
	out, err := cmd.StdoutPipe()
	must(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line := make([]byte, 100)
	n, _ := out.Read(line)
	if got := string(line[:n]); got != key+"\n" {
		t.Fatalf("COMMAND has OWNER_LEASE %q; %s", got, &stderr)
	}
	return cmd, &stderr
}

// An owner that is asked to step down ends its COMMAND, and another runs its own.
func TestHandover(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	with := func(sub string, more ...string) []string {
		return append([]string{sub, "--dsn", s.DSN(), "--key", "k"}, more...)
	}
	says(t, 0, "", "", "setup", "--dsn", s.DSN())
	says(t, 3, "", "has no owner to be asked", with("handover")...)
	replaced, stderr := hold(t, "k", with("run", append([]string{"--ttl", "20s"}, self("test-lease")...)...)...)
	says(t, 77, "", "", with("run", append([]string{"--quiet", "--replace"}, self("test-exit", "77")...)...)...)
	_ = replaced.Wait()
	if stderr.Len() > 0 {
		t.Errorf("the owner that was replaced: %s", stderr)
	}
	first, _ := hold(t, "k", with("run", append([]string{"--ttl", "20s"}, self("test-lease")...)...)...)
	next := cmdtest.Command(with("run", append([]string{"--ttl", "20s", "--wait", cmdtest.Limit.String()}, self("test-exit", "78")...)...)...)
	must(t, next.Start())
	says(t, 0, fmt.Sprintf("pid %d", next.Process.Pid), "", with("handover")...)
	_ = first.Wait()
	_ = next.Wait()
	if code := cmdtest.ShellCode(next.ProcessState); code != 78 {
		t.Errorf("the next owner: exit %d", code)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	const away = "host=127.0.0.1 port=1 user=a dbname=b"
	for _, c := range []struct {
		says string
		args []string
	}{
		{`there is no command "nope"`, []string{"nope"}},
		{"--key is missing (see: owner-pg status --help)", []string{"status"}},
		{"--key is missing", []string{"run", "true"}},
		{"cannot use --dsn", []string{"status", "--key", "k", "--dsn", "hostx"}},
		{"connection refused", []string{"status", "--key", "k", "--dsn", away, "--dial-timeout", "5s"}},
		{"no such file or directory", []string{"status", "--key", "k", "--dsn", "host=/nonexistent user=a dbname=b", "--dial-timeout", "5s"}},
		{"connection refused", []string{"run", "--key", "k", "--dsn", away, "-n", "true"}},
		{"connection refused", []string{"setup", "--dsn", away}},
		{"--dial-timeout 0s is not positive", []string{"setup", "--dsn", away, "--dial-timeout", "0s"}},
		{"negative", []string{"setup", "--dsn", away, "--max-ttl", "-1s"}},
		{`"more" is one argument too many`, []string{"setup", "more"}},
	} {
		says(t, 125, "", c.says, c.args...)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
