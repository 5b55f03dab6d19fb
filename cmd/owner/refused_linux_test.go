package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Where the system refuses the sources of hints, as seccomp profiles and exhausted limits
// do, the command takes over all the same; while it waits, it reports that if it can make
// a takeover late.
func TestHintsRefused(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skipf("has system calls refused by strace (Debian: apt-get install strace): %v", err)
	}
	if out, err := exec.Command(strace, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot trace on this machine: %v: %s", err, out)
	}
	for name, refused := range map[string][]string{
		"inotify":            {"inotify_init1:error=EMFILE"},
		"inotify and pidfds": {"inotify_init1:error=EMFILE", "pidfd_open:error=EPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease, dir := leaseIn(t), t.TempDir()
			calls, warnings := filepath.Join(dir, "calls"), filepath.Join(dir, "warnings")
			owner := hold(t, lease, "--ttl", "3s")
			cmd := command("run", "--lease", lease, "--ttl", "3s", self(), "test-exit", "7")
			trace := []string{strace, "-f", "-qq", "-o", calls, "-e", "trace=inotify_init1,pidfd_open"}
			for _, call := range refused {
				trace = append(trace, "-e", "inject="+call)
			}
			cmd.Args = append(trace, cmd.Args...)
			// Its stderr is a file, so that it can be read meanwhile.
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `exec "$@" 2>"$0"`, warnings}, cmd.Args...)
			next := startCommand(t, cmd)
			awaitText(t, calls, "(INJECTED)")
			awaitText(t, warnings, "a takeover can take up to a second")
			_ = owner.Stdin.Close()
			if _, code := next.Wait(); code != 7 {
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
