//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/ownerlease/owner"
)

// lines is what was printed on stderr, with the pauses left out.
func (p *process) lines() string {
	return regexp.MustCompile(` in \d+ms`).ReplaceAllString(p.Stderr.String(), "")
}

// A COMMAND that fails is started again under the same epoch, and the last failure counts.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		script string
		code   int
		how    string
	}{
		{"exit 3", 3, "ended with exit code 3"},
		{"kill -9 $$", 137, "was ended by a signal: killed"},
	} {
		lease := leaseIn(t)
		p := start(t, "run", "--lease", lease, "--restart", "2", "-c", "echo $OWNER_EPOCH; "+c.script)
		out, code := p.Wait()
		epoch, _, _ := strings.Cut(out, "\n")
		if want := strings.Repeat(epoch+"\n", 3); out != want || code != c.code {
			t.Errorf("%s: %q, exit %d", c.script, out, code)
		}
		rec, err := owner.Inspect(lease)
		if err != nil || fmt.Sprint(rec.Epoch) != epoch {
			t.Errorf("COMMAND saw epoch %s, and the record has %d, %v", epoch, rec.Epoch, err)
		}
		want := ""
		for i := range 2 {
			want += fmt.Sprintf("owner: COMMAND %s: starting it again, as the restart %d of 2\n", c.how, i+1)
		}
		want += fmt.Sprintf("owner: COMMAND %s: it has failed 3 times in a row, and is not started again\n", c.how)
		if got := p.lines(); got != want {
			t.Errorf("got:\n%swant:\n%s", got, want)
		}
		wantStatus(t, lease, "released", 3)
	}
}

// It is over when COMMAND succeeds.
func TestRestartUntilSuccess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, _, code := ownerCommand(t, "run", "--lease", filepath.Join(dir, "lease"), "--restart", "9", "-c",
		`echo x >>`+dir+`/runs; test $(wc -l <`+dir+`/runs) = 3`)
	if runs := read(dir + "/runs"); code != 0 || out != "" || runs != "x\nx\nx\n" {
		t.Errorf("exit %d, %q, runs: %q", code, out, runs)
	}
}

// A COMMAND that cannot be run, or was asked to end, is not started again.
func TestNoRestart(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := start(t, "run", "--lease", leaseIn(t), "--restart", "9", plain)
	p.MustExit(126, "owner: cannot run COMMAND: ")
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130, syscall.SIGHUP: 129} {
		p := start(t, "run", "--lease", leaseIn(t), "--restart", "9", "sh", "-c", "echo ready; read x")
		p.Line()
		p.Signal(sig)
		p.MustExit(code, "")
	}
	// It has caught TERM, and ends otherwise.
	p = start(t, "run", "--lease", leaseIn(t), "--restart", "9", "sh", "-c", "exec 2>/dev/null; trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done")
	p.Line()
	p.Signal(syscall.SIGTERM)
	p.MustExit(4, "")
}

// HUP asks many a COMMAND to read its configuration again: a failure after that counts.
func TestRestartAfterReload(t *testing.T) {
	t.Parallel()
	p := start(t, "run", "--lease", leaseIn(t), "--restart", "9", self(), "test-signals", "1")
	p.Line()
	p.Signal(syscall.SIGHUP)
	if got := p.Line(); got != "1" {
		t.Errorf("got %q", got)
	}
	p.Types("3\n")
	if got := p.Line(); got != "ready" {
		t.Errorf("got %q", got)
	}
	p.Types("0\n")
	p.Wait()
}

// Between two runs, nothing of the first is left, and the lease is kept.
func TestNothingIsLeftBeforeARestart(t *testing.T) {
	t.Parallel()
	lease, dir := leaseIn(t), t.TempDir()
	check := `for pid in $(cat ` + dir + `/pids 2>/dev/null); do kill -0 $pid 2>/dev/null && echo "pid $pid is left"; done`
	p := start(t, "run", "--lease", lease, "--restart", "3", "--grace", "50ms", "-c",
		check+`; (trap '' TERM; while :; do sleep 1000; done) & echo $! >>`+dir+`/pids; setsid sleep 1000 & echo $! >>`+dir+`/pids; exit 3`)
	eventually(t, "the lease is owned", func() bool {
		st, err := owner.Probe(lease)
		return err == nil && st.Condition == owner.Live
	})
	next := start(t, "run", "-q", "--lease", lease, "-c", check+`; exit 0`)
	if out, code := p.Wait(); out != "" || code != 3 {
		t.Errorf("exit %d, %q, %s", code, out, &p.Stderr)
	}
	if out, code := next.Wait(); out != "" || code != 0 {
		t.Errorf("exit %d, %q", code, out)
	}
}

// A pause is ended by a signal, and by the loss of the lease.
func TestEndOfAPause(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code int
		says string
		end  func(p *process, lease string)
	}{
		"TERM":   {143, "", func(p *process, _ string) { p.Signal(syscall.SIGTERM) }},
		"a loss": {122, "owner: lost the lease, while COMMAND was to be started again: lease revoked", func(_ *process, lease string) { _ = os.Remove(lease) }},
		"USR1":   {0, "", func(p *process, _ string) { p.Signal(syscall.SIGUSR1); p.Signal(syscall.SIGTERM) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease := leaseIn(t)
			p := start(t, "run", "--lease", lease, "--ttl", "1s", "--restart", "99", "-c", "exit 3")
			eventually(t, "a long pause", func() bool { return strings.Contains(p.Stderr.String(), "restart 6 of 99") })
			c.end(p, lease)
			_, code := p.Wait()
			if code != c.code && (c.code != 0 || code != 143) || !strings.Contains(p.Stderr.String(), c.says) {
				t.Errorf("exit %d: %s", code, &p.Stderr)
			}
		})
	}
}

// HUP in a pause asks for a reload where there is no terminal, as under a service manager.
func TestReloadInAPause(t *testing.T) {
	t.Parallel()
	cmd := command("run", "--lease", leaseIn(t), "--restart", "99", "-c", `trap "" HUP; exit 3`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p := startCommand(t, cmd)
	eventually(t, "a long pause", func() bool { return strings.Contains(p.Stderr.String(), "restart 5 of 99") })
	p.Signal(syscall.SIGHUP)
	eventually(t, "the next run", func() bool { return strings.Contains(p.Stderr.String(), "restart 6 of 99") })
	p.Signal(syscall.SIGTERM)
	if _, code := p.Wait(); code != 143 {
		t.Errorf("exit %d: %s", code, &p.Stderr)
	}
}

// While COMMAND does not run, nothing is advertised, and its health is not asked for.
func TestRestartWithdraws(t *testing.T) {
	t.Parallel()
	lease, dir := leaseIn(t), t.TempDir()
	p := start(t, "run", "--lease", lease, "--ttl", "4s", "--restart", "9", "--endpoint", "unix:/x", "--ready-cmd", "test -e "+dir+"/up",
		"--health-cmd", "test -e "+dir+"/up", "--health-interval", "50ms", "sh", "-c", "echo ready; read x; exit 3")
	p.Line()
	touch(t, dir+"/up")
	eventually(t, "advertised", func() bool { return strings.Contains(inspected(t, lease), "endpoint") })
	if err := os.Remove(dir + "/up"); err != nil {
		t.Fatal(err)
	}
	p.Types("\n")
	if got := p.Line(); got != "ready" {
		t.Fatalf("got %q: %s", got, &p.Stderr)
	}
	eventually(t, "withdrawn", func() bool { return !strings.Contains(inspected(t, lease), "endpoint") })
	touch(t, dir+"/up")
	eventually(t, "advertised", func() bool { return strings.Contains(inspected(t, lease), "endpoint") })
	wantStatus(t, lease, "live", 0)
}

// A check in progress, when COMMAND ends, is nothing that it has left behind.
func TestProbeIsNotLeftByCommand(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{
		{"--health-timeout", "4s", "--health-cmd"},
		{"--ready-cmd"},
	} {
		lease := leaseIn(t)
		p := start(t, append(append([]string{"run", "--lease", lease}, flags...),
			"echo >$OWNER_LEASE.asked; sleep 1000 & sleep 1000", "-c", "while ! test -e $OWNER_LEASE.asked; do sleep 0.01; done; exit 0")...)
		p.MustExit(0, "")
		wantStatus(t, lease, "released", 3)
	}
}

// A COMMAND that puts itself into the background is told what to do.
func TestForksAway(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	p := start(t, "run", "--lease", lease, "sh", "-c", "(trap '' TERM; sleep 1000) & exit 0")
	p.MustExit(0, "owner: COMMAND has ended at once, and what it has left behind is ended, too: have it stay in the foreground")
	wantStatus(t, lease, "released", 3)
}
