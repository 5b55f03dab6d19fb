package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/cmdtest"
)

// leavers are scripts with a process that leaves COMMAND's process group, in every
// possible way. Each prints "ready", and ends when its stdin does; and if a test fails,
// its processes end by themselves, after the test.
var leavers = map[string]string{
	"timeout":     `timeout 60 sleep 60 & echo ready; read x; exit 3`,
	"setsid":      `setsid sleep 60 & echo ready; read x; exit 3`,
	"set -m":      `set -m 2>/dev/null; sleep 60 & echo ready; read x; exit 3`,
	"orphan":      `(setsid sh -c "sleep 60 & sleep 60 & wait" &); sleep 0.1; echo ready; read x; exit 3`,
	"daemon":      `(setsid nohup sh -c "(trap '' TERM HUP; sleep 60 & wait) & exit" >/dev/null 2>&1 &); sleep 0.1; echo ready; read x; exit 3`,
	"another env": `env -i setsid sleep 60 & echo ready; read x; exit 3`,
	"forks on":    `(for i in $(seq 500); do (setsid sleep 60 &); sleep 0.01; done &); echo ready; read x; exit 3`,
}

// However COMMAND ends, no process of it is left.
func TestNothingOfCommandIsLeft(t *testing.T) {
	t.Parallel()
	ends := map[string]struct {
		code int
		end  func(t *testing.T, p *process, lease string)
	}{
		"its own end": {3, func(_ *testing.T, p *process, _ string) { _ = p.Stdin.Close() }},
		"a loss": {122, func(t *testing.T, _ *process, lease string) {
			if err := os.Remove(lease); err != nil {
				t.Error(err)
			}
		}},
		"kill -9 of the owner": {137, func(_ *testing.T, p *process, _ string) { p.Signal(syscall.SIGKILL) }},
		"kill -9 of the job":   {137, func(_ *testing.T, p *process, _ string) { p.SignalJob(syscall.SIGKILL) }},
		"kill -9 of the warden": {137, func(t *testing.T, p *process, _ string) {
			if err := syscall.Kill(wardenOf(t, p.Cmd.Process.Pid), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}},
		"TERM": {143, func(_ *testing.T, p *process, _ string) { p.Signal(syscall.SIGTERM) }},
	}
	for how, script := range leavers {
		for what, c := range ends {
			t.Run(how+", "+what, func(t *testing.T) {
				t.Parallel()
				lease, l := leaseIn(t), cmdtest.NewLife(t)
				p := startScript(t, lease, []string{"--ttl", "2s", "--grace", "50ms"}, l, script)
				c.end(t, p, lease)
				if _, code := p.Wait(); code != c.code {
					t.Errorf("exit %d, want %d; %s", code, c.code, &p.Stderr)
				}
				l.MustEnd(t)
			})
		}
	}
}

// A stopped owner does not keep processes that have left the group alive.
func TestStoppedForTooLongWithProcessesElsewhere(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*process){
		"the owner": func(p *process) { p.Signal(syscall.SIGSTOP) },
		"the job":   func(p *process) { p.SignalJob(syscall.SIGSTOP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease, l := leaseIn(t), cmdtest.NewLife(t)
			p := startScript(t, lease, []string{"--ttl", "3s"}, l, leavers["daemon"]) // the warden has 75ms to end it
			stop(p)
			_, stderr, code := ownerCommand(t, "run", "-q", "--lease", lease, "true")
			if code != 0 || !l.Ended(t) {
				t.Errorf("exit %d, %q; COMMAND has ended: %v", code, stderr, l.Ended(t))
			}
			p.SignalJob(syscall.SIGCONT)
			p.MustExit(122, "owner: lost the lease, and ended COMMAND: ")
		})
	}
}

// The lease is released after the last process of COMMAND has ended, and not before.
func TestReleaseWaitsForWhatHasLeftTheGroup(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	// After TERM, the leftover prints the status of the lease.
	p := startScript(t, lease, nil, l, fmt.Sprintf(
		`setsid sh -c 'trap "sleep 0.2; \"%s\" status --lease \"$OWNER_LEASE\"; exit" TERM; echo ready; while :; do sleep 0.01; done' 2>/dev/null & read x; exit 5`, self()))
	_ = p.Stdin.Close()
	out, code := p.Wait()
	if code != 5 || p.Stderr.Len() > 0 || !strings.Contains(out, "condition  live: ") {
		t.Errorf("exit %d, %q, %q", code, out, &p.Stderr)
	}
	l.MustEnd(t)
	wantStatus(t, lease, "released", 3)
}

// What this process was the parent of before it became "owner run" is not COMMAND's.
func TestChildrenOfBeforeAreLeftAlone(t *testing.T) {
	t.Parallel()
	for _, script := range []string{`true`, `kill -9 $PPID; sleep 60`} {
		cmd := command()
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c",
			`sleep 60 >/dev/null 2>&1 & echo $!; exec "$0" run --lease "$1" --grace 50ms sh -c "$2"`, self(), leaseIn(t), script}
		p := startCommand(t, cmd)
		pid, _ := strconv.Atoi(p.Line())
		p.Wait()
		if state := stateOf(pid); state != "S" {
			t.Errorf("after %s, the other child is in state %q", script, state)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// stateOf is a process's state as ps shows it.
func stateOf(pid int) string {
	out, _ := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	return strings.TrimSpace(string(out))
}

// A program as another user runs it: none of its files is in the test's own folder.
func installed(t *testing.T, name string, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "owner-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	from, err := os.Open(self())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{to.Close(), os.Chmod(dir, 0o777), os.Chmod(path, mode)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

const otherUser = 65534

// A COMMAND that has become another user cannot be ended. That is said, and the
// lease is not released while it runs.
func TestCommandOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("it makes a program setuid root: run the tests as root, as with sudo")
	}
	program, helper := installed(t, "owner", 0o755), installed(t, "helper", os.ModeSetuid|0o755)
	start := func(t *testing.T, script string) (p *process, lease string, pid int) {
		lease = filepath.Join(filepath.Dir(program), t.Name()[strings.LastIndex(t.Name(), "/")+1:])
		cmd := command()
		cmd.Path, cmd.Args = program, []string{"owner", "run", "--lease", lease, "--ttl", "1s", "--grace", "100ms", "--", "sh", "-c", script, helper}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: otherUser, Gid: otherUser}
		cmd.Dir = filepath.Dir(program)
		p = startCommand(t, cmd)
		uid := 0
		if line := p.Line(); line != "" {
			if _, err := fmt.Sscan(line, &uid, &pid); err != nil {
				t.Fatalf("got %q; %s", line, &p.Stderr)
			}
		}
		if uid != 0 {
			t.Skip("setuid programs do not work in the folder for temporary files: choose another with TMPDIR")
		}
		return p, lease, pid
	}
	notPermitted := func(pid int) string {
		return fmt.Sprintf("owner: cannot end pid %d (uid 0) of COMMAND: operation not permitted; ", pid)
	}
	t.Run("leftover", func(t *testing.T) {
		t.Parallel()
		// A background job has no stdin but for this; the helper ends with it.
		p, lease, pid := start(t, `exec 3<&0; "$0" test-become-root <&3 & until [ -e end ]; do sleep 0.01; done; exit 4`)
		if err := os.WriteFile(filepath.Join(filepath.Dir(program), "end"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		p.mustSay(notPermitted(pid) + "the lease is kept until it has ended")
		p.Signal(syscall.SIGTERM)
		for range 15 { // longer than the ttl: it is renewed
			mustBeOwned(t, lease, p.Cmd.Process.Pid)
			time.Sleep(100 * time.Millisecond)
		}
		_ = p.Stdin.Close()
		if _, code := p.Wait(); code != 4 {
			t.Errorf("exit %d", code)
		}
		wantStatus(t, lease, "released", 3)
	})
	t.Run("loss", func(t *testing.T) {
		t.Parallel()
		p, lease, pid := start(t, `exec "$0" test-become-root`)
		if err := os.Remove(lease); err != nil {
			t.Fatal(err)
		}
		p.mustSay(notPermitted(pid) + "the lease is lost, ")
		_, stderr, code := ownerCommand(t, "run", "--lease", lease, "true")
		if code != 0 {
			t.Errorf("the successor: exit %d, %s", code, stderr)
		}
		p.Signal(syscall.SIGTERM)
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil || stateOf(p.Cmd.Process.Pid) == "Z" {
			t.Error("it did not wait for the end of COMMAND")
		}
		_ = p.Stdin.Close()
		_, code = p.Wait()
		if want := fmt.Sprintf("owner: lost the lease, and could not end pid %d (uid 0) of COMMAND, which ended ", pid); code != 121 || !strings.Contains(p.Stderr.String(), want) {
			t.Errorf("exit %d, %s", code, &p.Stderr)
		}
	})
}

// mustSay waits until stderr has a text.
func (p *process) mustSay(want string) {
	p.T.Helper()
	eventually(p.T, "it says "+want, func() bool { return strings.Contains(p.Stderr.String(), want) })
}

func mustBeOwned(t *testing.T, lease string, pid int) {
	t.Helper()
	st, err := owner.Probe(lease)
	if err != nil || st.Condition != owner.Live || st.Record.PID != pid {
		t.Errorf("the lease is %v, of pid %d (%v); want pid %d", st.Condition, st.Record.PID, err, pid)
	}
}
