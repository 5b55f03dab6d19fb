package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Where the system refuses what gives hints, as seccomp profiles and exhausted limits
// do, the command takes over all the same; and it says so while it waits if that can
// make it late.
func TestHintsRefused(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skipf("has system calls refused by strace (Debian: apt-get install strace): %v", err)
	}
	if out, err := exec.Command(strace, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("this machine does not let strace trace: %v: %s", err, out)
	}
	for _, tc := range []struct{ name, err, warning string }{
		{"pidfd_open", "EPERM", ""}, // the alive file may tell the same
		{"inotify_init1", "EMFILE", "still waiting: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			lease, dir := leaseIn(t), t.TempDir()
			calls, warnings := filepath.Join(dir, "calls"), filepath.Join(dir, "warnings")
			owner := hold(t, lease, "--ttl", "3s")
			cmd := command("run", "--lease", lease, "--ttl", "3s", self(), "test-exit", "7")
			cmd.Args = append([]string{strace, "-f", "-qq", "-o", calls, "-e", "trace=" + tc.name, "-e", "inject=" + tc.name + ":error=" + tc.err}, cmd.Args...)
			// Its stderr is a file, so that it can be read meanwhile.
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `exec "$@" 2>"$0"`, warnings}, cmd.Args...)
			next := startCommand(t, cmd)
			awaitText(t, calls, "(INJECTED)")
			awaitText(t, warnings, tc.warning)
			_ = owner.stdin.Close()
			if _, code := next.wait(); code != 7 {
				t.Errorf("exit %d after the owner's end", code)
			}
		})
	}
}

func awaitText(t *testing.T, path, want string) {
	t.Helper()
	eventually(t, path+" contains "+want, func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(b), want)
	})
}
