//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ownerlease/owner/internal/cmdtest"
)

// An owner whose COMMAND is not healthy any more loses the lease to a standby, and a probe
// that hangs counts like one that fails. What a probe has started is ended with it.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sick, says string }{
		"it fails": {`echo "no answer"; exit 7`, "--health-cmd: exit code 7: no answer"},
		"it hangs": {`sleep 1000 9>&- & sleep 1000`, "--health-cmd: ended after 2s without an answer"},
		"killed":   {`kill -9 $$`, "--health-cmd: ended by a signal: killed"},
		"floods":   {`i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; exit 1`, "--health-cmd: exit code 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease, l, dir := leaseIn(t), cmdtest.NewLife(t), t.TempDir()
			probe := fmt.Sprintf(`exec 9>%s; echo x >>%s/asked; test -e %s/well || { %s; }`, l.Path, dir, dir, c.sick)
			touch(t, dir+"/well")
			p := startScript(t, lease, []string{"--ttl", "4s", "--health-timeout", "4s", "--health-interval", "50ms", "--health-cmd", probe}, l, `echo ready; sleep 1000`)
			eventually(t, "a few checks", func() bool { return len(read(dir+"/asked")) >= 6 })
			wantStatus(t, lease, "live", 0)
			next := start(t, "run", "-q", "--lease", lease, "-c", "echo next; read x")
			if err := os.Remove(dir + "/well"); err != nil {
				t.Fatal(err)
			}
			p.MustExit(122, "owner: lost the lease, and ended COMMAND: work not healthy: last error: "+c.says)
			l.MustEnd(t)
			if got := next.Line(); got != "next" {
				t.Errorf("got %q", got)
			}
			if n := len(p.Stderr.String()); n > 1000 {
				t.Errorf("%d bytes of output", n)
			}
		})
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// A check has COMMAND's environment and folder, and no input. It is over in time for what it
// leaves behind.
func TestSurroundingsOfAProbe(t *testing.T) {
	t.Parallel()
	lease, l, dir := leaseIn(t), cmdtest.NewLife(t), t.TempDir()
	cmd := command("run", "--lease", lease, "--endpoint", "unix:/x", "--ready-cmd",
		`exec 9>`+l.Path+`; echo "$OWNER_EPOCH $OWNER_LEASE $PWD $(cat)" >out; sleep 1000 & exit 0`,
		"-c", `exec 9>`+l.Path+`; echo "$OWNER_EPOCH $OWNER_LEASE $PWD "; while [ ! -e out ]; do sleep 0.01; done; read x; exit 0`)
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "PWD="+dir)
	p := startCommand(t, cmd)
	want := p.Line()
	l.Watch(t)
	eventually(t, "advertised", func() bool { return strings.Contains(inspected(t, lease), "unix:/x") })
	if got := strings.TrimSuffix(read(filepath.Join(dir, "out")), "\n"); got != want {
		t.Errorf("COMMAND has %q, and its check %q", want, got)
	}
	if l.Ended(t) {
		t.Error("COMMAND has ended")
	}
	_ = p.Stdin.Close()
	p.MustExit(0, "")
	l.MustEnd(t)
}

// inspected is what status prints.
func inspected(t *testing.T, lease string) string {
	t.Helper()
	out, _, _ := ownerCommand(t, "status", "--lease", lease)
	return out
}

// What a probe leaves behind is ended with it, not with COMMAND.
func TestLeftoversOfAProbe(t *testing.T) {
	t.Parallel()
	lease, l, dir := leaseIn(t), cmdtest.NewLife(t), t.TempDir()
	p := start(t, "run", "--lease", lease, "--ready-cmd",
		`exec 9>`+l.Path+`; echo >`+dir+`/begun; sleep 1000 & sleep 1000 & (sleep 1000 &); exit 0`, "-c", `echo ready; read x; exit 5`)
	p.Line()
	eventually(t, "the probe begins", func() bool { return read(dir+"/begun") != "" })
	l.Watch(t)
	l.MustEnd(t)
	wantStatus(t, lease, "live", 0)
	_ = p.Stdin.Close()
	p.MustExit(5, "")
}

// A probe in progress ends with COMMAND, with the lease, and with this process.
func TestProbeEndsWithCommand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code int
		end  func(p *process, lease string)
	}{
		"COMMAND ends":         {3, func(p *process, _ string) { _ = p.Stdin.Close() }},
		"TERM":                 {143, func(p *process, _ string) { p.Signal(syscall.SIGTERM) }},
		"kill -9":              {137, func(p *process, _ string) { p.Signal(syscall.SIGKILL) }},
		"a loss":               {122, func(_ *process, lease string) { _ = os.Remove(lease) }},
		"stopped for too long": {122, func(p *process, lease string) { stopFor(p, lease) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease, l, dir := leaseIn(t), cmdtest.NewLife(t), t.TempDir()
			p := start(t, "run", "--lease", lease, "--ttl", "4s", "--grace", "50ms", "--health-interval", "100s", "--health-cmd",
				`exec 9>`+l.Path+`; trap "" TERM; echo >`+dir+`/begun; while :; do sleep 1000; done`, "-c", `echo ready; read x; exit 3`)
			p.Line()
			eventually(t, "the probe begins", func() bool { return read(dir+"/begun") != "" })
			l.Watch(t)
			began := time.Now()
			c.end(p, lease)
			l.MustEnd(t)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if _, code := p.Wait(); code != c.code {
				t.Errorf("exit %d: %s", code, &p.Stderr)
			}
		})
	}
}

// stopFor stops the owner until another has owned the lease.
func stopFor(p *process, lease string) {
	p.Signal(syscall.SIGSTOP)
	ownerCommand(p.T, "run", "-q", "--lease", lease, "true")
	p.Signal(syscall.SIGCONT)
}

// The check is tried until it succeeds, and only then is COMMAND reachable for others.
func TestReadyCommand(t *testing.T) {
	t.Parallel()
	lease, dir := leaseIn(t), t.TempDir()
	p := start(t, "run", "--lease", lease, "--endpoint", "unix:/x", "--meta", "a=b",
		"--ready-cmd", `echo x >>`+dir+`/asked; test -e `+dir+`/up`, "-c", "echo ready; read x; exit 0")
	p.Line()
	eventually(t, "some tries", func() bool { return len(read(dir+"/asked")) >= 6 })
	if out := inspected(t, lease); strings.Contains(out, "endpoint") || strings.Contains(out, "a=b") {
		t.Error(out)
	}
	touch(t, dir+"/up")
	eventually(t, "advertised", func() bool {
		out := inspected(t, lease)
		return strings.Contains(out, "endpoint   unix:/x\n") && strings.Contains(out, "a=b")
	})
	asked := read(dir + "/asked")
	_ = p.Stdin.Close()
	p.MustExit(0, "")
	if again := read(dir + "/asked"); again != asked {
		t.Errorf("asked again, when it was ready: %d, %d", len(again), len(asked))
	}
}

// A COMMAND that does not get ready is ended, with the reason, and the lease is released.
func TestNeverReady(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flag, timeout, says string
	}{
		{"--ready-cmd=echo not yet; exit 9", "2", "COMMAND was not ready after 2s, and was ended: --ready-cmd: exit code 9: not yet"},
		{"--ready-cmd=sleep 1000", "0.7", "COMMAND was not ready after 700ms, and was ended: --ready-cmd has not ended yet"},
	} {
		lease, l := leaseIn(t), cmdtest.NewLife(t)
		p := startScript(t, lease, []string{"--grace", "100ms", "--ready-timeout", c.timeout, c.flag}, l, cmdtest.Stubborn)
		p.MustExit(120, "owner: "+c.says)
		l.MustEnd(t)
		wantStatus(t, lease, "released", 3)
	}
}

// What is wrong with what is to be advertised later is said at once.
func TestMetaIsCheckedAtOnce(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	_, stderr, code := ownerCommand(t, "run", "--lease", lease, "--ready-cmd", "true", "--meta", "a="+strings.Repeat("x", 4000), "-c", "echo ran")
	if code != 125 || !strings.Contains(stderr, "metadata too large") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	wantStatus(t, lease, "none", 3)
}
