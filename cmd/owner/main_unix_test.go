//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
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

// startScript starts a script under a lease and waits for its first line, which
// must be "ready".
func startScript(t *testing.T, lease string, flags []string, l *cmdtest.Life, script string) *process {
	t.Helper()
	args := append([]string{"run", "--lease", lease}, flags...)
	p := start(t, append(append(args, "--"), l.Script(script)...)...)
	if got := p.Line(); got != "ready" {
		t.Fatalf("got %q", got)
	}
	l.Watch(t)
	return p
}

func TestExitCodeOfASignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGUSR1} {
		_, stderr, code := ownerCommand(t, "run", "--lease", leaseIn(t), "sh", "-c", fmt.Sprintf("kill -%d $$", sig))
		if code != 128+int(sig) || stderr != "" {
			t.Errorf("%v: exit %d, %q", sig, code, stderr)
		}
	}
}

// Without PATH, COMMAND is looked for where the C library does, as with flock(1).
func TestWithoutPATH(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]int{"true": 0, "owner-no-such-command": 127} {
		cmd := command("run", "--lease", leaseIn(t), name)
		cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
		if _, stderr, got := cmdtest.ToItsEnd(t, cmd); got != code || !strings.Contains(stderr, name) && code != 0 {
			t.Errorf("%s: exit %d, want %d: %s", name, got, code, stderr)
		}
	}
}

func TestCannotRun(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	noProgram := filepath.Join(t.TempDir(), "no-program")
	if err := os.WriteFile(noProgram, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, filepath.Dir(plain), noProgram} {
		_, stderr, code := ownerCommand(t, "run", "-n", "--lease", lease, path)
		if code != 126 || !strings.HasPrefix(stderr, "owner: cannot run COMMAND: ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", path, code, stderr)
		}
	}
	// What could only be found out by trying has left a free lease.
	wantStatus(t, lease, "released", 3)
}

func TestSignalsAreForwarded(t *testing.T) {
	t.Parallel()
	sigs := []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM,
		syscall.SIGWINCH, syscall.SIGCONT, syscall.SIGTERM,
	}
	script := "exec '" + self() + "' test-signals"
	for _, sig := range sigs {
		script += " " + strconv.Itoa(int(sig))
	}
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, script)
	for _, sig := range sigs {
		p.Signal(sig)
		if got := p.Line(); got != strconv.Itoa(int(sig)) {
			t.Errorf("%v arrived as %q", sig, got)
		}
	}
	// The lease is kept until COMMAND has ended, whatever it was sent.
	wantStatus(t, lease, "live", 0)
	p.Types("3\n")
	p.MustExit(3, "")
	wantStatus(t, lease, "released", 3)
}

func TestIgnoredSignalStaysIgnored(t *testing.T) {
	t.Parallel()
	cmd := command()
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `trap "" HUP; exec "$0" run --lease "$1" sh -c 'echo ready; read x'`, self(), leaseIn(t)}
	p := startCommand(t, cmd)
	if got := p.Line(); got != "ready" {
		t.Fatalf("got %q", got)
	}
	p.Signal(syscall.SIGHUP)
	p.Types("go\n")
	p.MustExit(0, "")
}

func TestLossEndsCommandInTime(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, []string{"--ttl", "4s"}, l, cmdtest.Stubborn)
	removed := time.Now()
	if err := os.Remove(lease); err != nil {
		t.Fatal(err)
	}
	l.MustEnd(t)
	// The last renewal that counted was before the removal.
	if took := time.Since(removed); took > 4*time.Second {
		t.Errorf("COMMAND ran for %v after the removal; the lease lasted for 4s at most", took)
	}
	p.MustExit(122, "owner: lost the lease, and ended COMMAND: lease revoked")
}

func TestLossLeavesCommandItsGrace(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, []string{"--ttl", "1s"}, l, `exec 2>/dev/null; trap "echo cleaned up; exit 0" TERM; echo ready; while :; do sleep 0.05; done`)
	if err := os.Remove(lease); err != nil {
		t.Fatal(err)
	}
	if got := p.Line(); got != "cleaned up" {
		t.Errorf("got %q", got)
	}
	p.MustExit(122, "owner: lost the lease, ")
	l.MustEnd(t)
}

func TestKillNineLeavesNothing(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, cmdtest.Stubborn)
	p.Signal(syscall.SIGKILL)
	l.MustEnd(t)
	wantStatus(t, lease, "dead", 3)
	// Nothing holds the stdout that COMMAND had: not the warden either.
	p.Wait()
}

func TestLeftoversAreEndedBeforeTheRelease(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	// At TERM, the leftover prints the status of the lease.
	p := startScript(t, lease, nil, l,
		fmt.Sprintf(`(trap '"%s" status --lease "$OWNER_LEASE"; exit' TERM; echo ready; while :; do sleep 0.01; done) 2>/dev/null & read x; exit 5`, self()))
	_ = p.Stdin.Close()
	out, code := p.Wait()
	if code != 5 || p.Stderr.Len() > 0 || !strings.Contains(out, "condition  live: ") {
		t.Errorf("exit %d, %q, %q", code, out, &p.Stderr)
	}
	l.MustEnd(t)
	wantStatus(t, lease, "released", 3)
}

func TestStubbornLeftoversAreKilled(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, []string{"--grace", "100ms"}, l, `(`+cmdtest.Stubborn+`) & read x; exit 6`)
	_ = p.Stdin.Close()
	p.MustExit(6, "")
	l.MustEnd(t)
	wantStatus(t, lease, "released", 3)
}

func TestStoppedForTooLong(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, []string{"--ttl", "3s"}, l, cmdtest.Stubborn) // the warden has 75ms to end it
	p.Signal(syscall.SIGSTOP)
	// COMMAND ends while the owner is stopped, and before a successor starts.
	_, stderr, code := ownerCommand(t, "run", "--lease", lease, "true")
	if code != 0 || !l.Ended(t) {
		t.Errorf("exit %d, %q; COMMAND has ended: %v", code, stderr, l.Ended(t))
	}
	p.Signal(syscall.SIGCONT)
	p.MustExit(122, "owner: lost the lease, and ended COMMAND: ")
}

func TestStoppedForTooLongWithoutItsWarden(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, []string{"--ttl", "3s", "--grace", "1.5s"}, l, cmdtest.Stubborn)
	if err := syscall.Kill(wardenOf(t, p.Cmd.Process.Pid), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGSTOP)
	eventually(t, "the lease expires", func() bool {
		st, err := owner.Probe(lease)
		return err == nil && st.Condition == owner.Hung
	})
	wantStatus(t, lease, "hung", 3)
	resumed := time.Now()
	p.Signal(syscall.SIGCONT)
	l.MustEnd(t)
	if took := time.Since(resumed); took > 1500*time.Millisecond {
		t.Errorf("COMMAND ran for %v after the resumption: it was given its grace", took)
	}
	p.MustExit(122, "owner: lost the lease, and ended COMMAND: ")
}

func TestStoppedForAMoment(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, "echo ready; read x; exit 7")
	p.Signal(syscall.SIGSTOP)
	p.Signal(syscall.SIGCONT)
	_ = p.Stdin.Close()
	p.MustExit(7, "")
}

func TestCommandThatIsStoppedGoesOnOwning(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, "echo ready; echo $$; kill -STOP $$; echo resumed; exit 8")
	pid, _ := strconv.Atoi(p.Line())
	eventually(t, "COMMAND stops", func() bool { return isStopped(t, pid) })
	if isStopped(t, p.Cmd.Process.Pid) {
		t.Error("the owner has stopped, too")
	}
	wantStatus(t, lease, "live", 0)
	p.Signal(syscall.SIGCONT)
	if got := p.Line(); got != "resumed" {
		t.Errorf("got %q", got)
	}
	p.MustExit(8, "")
}

func TestJobControl(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, "echo ready; echo $$; while read x; do echo $x; done; exit 9")
	pid, _ := strconv.Atoi(p.Line())
	for _, round := range []string{"one", "two"} {
		p.SignalJob(syscall.SIGTSTP)
		eventually(t, "COMMAND and its owner stop", func() bool { return isStopped(t, pid) && isStopped(t, p.Cmd.Process.Pid) })
		p.Types(round + "\n")
		p.SignalJob(syscall.SIGCONT)
		if got := p.Line(); got != round {
			t.Errorf("got %q", got)
		}
	}
	_ = p.Stdin.Close()
	p.MustExit(9, "")
}

func TestJobThatWasStoppedForTooLongIsNotResumed(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, []string{"--ttl", "500ms"}, l, "echo ready; read x; kill -TSTP 0; echo resumed")
	// Without the warden, which would have killed it before.
	if err := syscall.Kill(wardenOf(t, p.Cmd.Process.Pid), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Types("\n")
	eventually(t, "the lease expires", func() bool {
		st, err := owner.Probe(lease)
		return err == nil && st.Condition == owner.Hung
	})
	p.Signal(syscall.SIGCONT)
	out, code := p.Wait()
	if code != 122 || out != "" {
		t.Errorf("exit %d, %q, %q", code, out, &p.Stderr)
	}
	l.MustEnd(t)
}

func TestUnusedWardenIsInvisible(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, "echo ready; read x; exit 0")
	warden := wardenOf(t, p.Cmd.Process.Pid)
	// A kill of all processes of this name must not end the protection.
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(warden, sig); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.Stdin.Close()
	p.MustExit(0, "")
	if err := syscall.Kill(warden, 0); err != syscall.ESRCH {
		t.Errorf("the warden is still there: %v", err)
	}
}

// isStopped reports whether a process is stopped by a signal.
func isStopped(t *testing.T, pid int) bool {
	t.Helper()
	out, _ := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	return strings.HasPrefix(strings.TrimSpace(string(out)), "T")
}

// wardenOf returns the pid of an owner's warden.
func wardenOf(t *testing.T, parent int) int {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[1] == strconv.Itoa(parent) && f[2] == "owner-warden" {
			pid, _ := strconv.Atoi(f[0])
			return pid
		}
	}
	t.Fatalf("process %d has no warden", parent)
	return 0
}

func TestShellLine(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"SHELL=", "SHELL=/bin/sh"} {
		cmd := command("run", "--lease", leaseIn(t), "-c", "echo one && exit 7")
		cmd.Env = append(cmd.Env, shell)
		p := startCommand(t, cmd)
		if out, code := p.Wait(); out != "one\n" || code != 7 {
			t.Errorf("%s: got %q, exit %d, %q", shell, out, code, &p.Stderr)
		}
	}
	cmd := command("run", "--lease", leaseIn(t), "-c", "not a line for sh")
	cmd.Env = append(cmd.Env, "SHELL=/bin/echo")
	p := startCommand(t, cmd)
	if out, code := p.Wait(); out != "-c not a line for sh\n" || code != 0 {
		t.Errorf("$SHELL was not used: %q, exit %d, %q", out, code, &p.Stderr)
	}
}
