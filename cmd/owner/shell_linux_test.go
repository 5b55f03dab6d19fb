package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Ctrl-C in a shell's loop or script has the effect that it has without owner, which
// is tried as well. In the scripts, RUN is the one or the other.
func TestInterruptedScripts(t *testing.T) {
	t.Parallel()
	const work = `sh -c 'echo ready; exec sleep 60'`
	for name, script := range map[string]string{
		"loop":                 `for i in 1 2 3; do RUN ` + work + `; done; echo still here`,
		"statements":           `RUN ` + work + `; echo still here $?`,
		"set -e":               `set -e; RUN ` + work + `; echo still here`,
		"pipeline":             `RUN ` + work + ` | cat; echo still here`,
		"and, or":              `RUN ` + work + ` && echo still here || echo and here`,
		"trap":                 `trap 'echo trapped' INT; RUN ` + work + `; echo after $?`,
		"COMMAND handles it":   `RUN sh -c 'trap "echo handled; exit 0" INT; echo ready; while :; do sleep 0.01; done'; echo after $?`,
		"COMMAND hides it":     `RUN sh -c 'trap "exit 130" INT; echo ready; while :; do sleep 0.01; done'; echo after $?`,
		"COMMAND gets it once": `RUN ` + self() + ` test-count-interrupts; echo after $?`,
		"subshell":             `(RUN ` + work + `; echo still here); echo and here`,
		"own exec":             `exec RUN ` + work,
	} {
		for _, shell := range []string{"bash", "dash", "zsh"} {
			t.Run(shell+", "+name, func(t *testing.T) {
				t.Parallel()
				path := needed(t, shell)
				sameAsDirectly(t, "\x03", func(run string) *exec.Cmd {
					return &exec.Cmd{Path: path, Args: []string{shell, "-c", strings.ReplaceAll(script, "RUN", run)}}
				})
			})
		}
	}
}

// Make ends as well. Its message then depends on the moment.
func TestInterruptedMake(t *testing.T) {
	t.Parallel()
	path := needed(t, "make")
	makefile := filepath.Join(t.TempDir(), "Makefile")
	rule := "all:\n\t-@" + self() + " run --lease " + leaseIn(t) + " -- sh -c 'echo ready; exec sleep 60'\n\t@echo still here\n"
	if err := os.WriteFile(makefile, []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startOnTerminal(t, nil, &exec.Cmd{Path: path, Args: []string{"make", "-f", makefile}})
	p.until("ready\r\n")
	p.waits()
	p.Types("\x03")
	if said := p.rest(); strings.Contains(said, "still here") || p.Cmd.ProcessState.Success() {
		t.Errorf("%q, %v", said, p.Cmd.ProcessState)
	}
}

// Ctrl-\ as well: its core is COMMAND's alone.
func TestQuitScript(t *testing.T) {
	t.Parallel()
	sameAsDirectly(t, "\x1c", func(run string) *exec.Cmd {
		return &exec.Cmd{Path: needed(t, "dash"), Args: []string{"dash", "-c", "ulimit -c 0; " + run + " sh -c 'echo ready; exec sleep 60'; echo after $?"}}
	})
}

// sameAsDirectly has a command run something under "owner run" and directly, on
// terminals at which a key is pressed when it is ready, and compares what they
// print and how they end.
func sameAsDirectly(t *testing.T, key string, command func(run string) *exec.Cmd) {
	t.Helper()
	var outcome [2]string
	for i, run := range []string{
		needed(t, "env"),
		self() + " run --lease " + leaseIn(t) + " --",
	} {
		p := startOnTerminal(t, nil, command(run))
		said := p.until("ready\r\n")
		p.waits()
		p.Types(key)
		said += p.rest()
		outcome[i] = pathsAndPids.ReplaceAllString(said, "…") + " " + p.Cmd.ProcessState.String()
	}
	if outcome[0] != outcome[1] {
		t.Errorf("directly %q, with owner %q", outcome[0], outcome[1])
	}
}

// waits returns when the shell waits for what it has started. Before that, a key has
// another effect: the shell prepares itself for it after the start.
func (p *pty) waits() {
	p.T.Helper()
	asleep := 0
	eventually(p.T, "the shell waits", func() bool {
		if asleep++; stateOf(p.Cmd.Process.Pid) != "S" {
			asleep = 0
		}
		return asleep == 5
	})
}

// pathsAndPids is what differs in what shells and make print.
var pathsAndPids = regexp.MustCompile(`/[^ \r\n]*|\b\d{4,}\b`)

// Ctrl-Z stops the job, and "fg" resumes it, as without owner.
func TestSuspendedInAShell(t *testing.T) {
	t.Parallel()
	for _, run := range []string{needed(t, "env"), self() + " run --lease " + leaseIn(t) + " --"} {
		p := startOnTerminal(t, nil, &exec.Cmd{Path: needed(t, "bash"), Args: []string{"bash", "--norc", "--noprofile", "--noediting", "-i"}})
		p.Types("PS1=; stty -echo\n")
		p.Types(run + " sh -c 'echo rea''dy $$.; read x; echo got $x; exit 5'\n")
		p.until("ready ")
		pid, err := strconv.Atoi(strings.TrimSuffix(p.until("."), "."))
		if err != nil {
			t.Fatal(err)
		}
		p.Types("\x1a")
		p.until("Stopped")
		// The shell waits for what it has started. What that has started may have to wait for
		// the processor, and reads a key that is pressed before.
		eventually(t, "COMMAND is stopped", func() bool { return stateOf(pid) == "T" })
		p.Types("echo prompt\n")
		p.until("prompt\r\n")
		p.Types("fg\n")
		p.Types("line\n")
		p.until("got line")
		p.Types("echo ended $?\n")
		p.until("ended 5")
		p.Types("exit\n")
		p.rest()
	}
}

// What a shell sees of an end by a signal is what it would see without owner.
func TestStatusInAShell(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGTERM, 40} {
		p := start(t, "run", "--lease", leaseIn(t), "--", "sh", "-c", "ulimit -c 0; kill -"+strconv.Itoa(int(sig))+" $$")
		p.Wait()
		ws := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !ws.Signaled() || ws.Signal() != sig || ws.CoreDump() || p.Stderr.Len() > 0 {
			t.Errorf("COMMAND ended by %v, this program: %v, %s", sig, p.Cmd.ProcessState, &p.Stderr)
		}
	}
}

// A signal that is ignored does not end the wait either.
func TestIgnoredSignalDoesNotEndTheWait(t *testing.T) {
	t.Parallel()
	program, lease := built(t), leaseIn(t)
	holder := hold(t, lease)
	looked := watchOpens(t, lease)
	cmd := command()
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `trap '' TERM USR1; exec "$0" run --lease "$1" sh -c 'echo ran'`, program, lease}
	p := startCommand(t, cmd)
	looked()
	p.Signal(syscall.SIGUSR1)
	p.Signal(syscall.SIGTERM)
	_ = holder.Stdin.Close()
	holder.MustExit(0, "")
	if out, code := p.Wait(); out != "ran\n" || code != 0 {
		t.Errorf("exit %d, %q, %s", code, out, &p.Stderr)
	}
}
