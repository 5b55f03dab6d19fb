//go:build unix

package main

import (
	"syscall"
	"testing"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/cmdtest"
)

// A COMMAND that was told to end takes its time, although its checks fail meanwhile: it is
// ended by none of their limits, and its code counts.
func TestChecksDoNotCutAnOrderlyEndShort(t *testing.T) {
	t.Parallel()
	byHandover := func(t *testing.T, _ *process, lease string) {
		if err := owner.RequestHandover(t.Context(), owner.Config{LeasePath: lease}, ""); err != nil {
			t.Fatal(err)
		}
	}
	bySignal := func(sig syscall.Signal) func(*testing.T, *process, string) {
		return func(_ *testing.T, p *process, _ string) { p.Signal(sig) }
	}
	health := func(probe string) []string {
		return []string{"--health-timeout", "4s", "--health-interval", "50ms", "--health-cmd", probe}
	}
	const well, wellOrHangs = "test -e $OWNER_LEASE.well", "test -e $OWNER_LEASE.well || sleep 1000"
	never := []string{"--ready-timeout", "4s", "--ready-cmd", "false"}
	for name, c := range map[string]struct {
		flags []string
		told  func(*testing.T, *process, string)
	}{
		"handover":                    {health(well), byHandover},
		"TERM":                        {health(well), bySignal(syscall.SIGTERM)},
		"INT":                         {health(well), bySignal(syscall.SIGINT)},
		"QUIT":                        {health(well), bySignal(syscall.SIGQUIT)},
		"TERM, and a check hangs":     {health(wellOrHangs), bySignal(syscall.SIGTERM)},
		"handover before it is ready": {never, byHandover},
		"TERM before it is ready":     {never, bySignal(syscall.SIGTERM)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease, l := leaseIn(t), cmdtest.NewLife(t)
			touch(t, lease+".well")
			p := startScript(t, lease, append(c.flags, "--ttl", "60s", "--grace", "100ms"), l,
				`exec 2>/dev/null; trap 'rm -f $OWNER_LEASE.well; trap "" TERM INT QUIT; sleep 6; exit 7' TERM INT QUIT; echo ready; while :; do sleep 0.05; done`)
			c.told(t, p, lease)
			p.MustExit(7, "")
			wantStatus(t, lease, "released", 3)
		})
	}
}

// What COMMAND leaves behind has the grace, although a check fails by then.
func TestChecksDoNotCutTheGraceShort(t *testing.T) {
	t.Parallel()
	lease, dir := leaseIn(t), t.TempDir()
	touch(t, dir+"/well")
	p := start(t, "run", "--lease", lease, "--ttl", "60s", "--grace", "20s", "--health-timeout", "2s", "--health-interval", "50ms",
		"--health-cmd", "echo >"+dir+"/asked; test -e "+dir+"/well", "-c",
		`(trap 'sleep 4; exit' TERM; while :; do sleep 0.05; done) 2>/dev/null & read x; rm `+dir+`/well; exit 7`)
	eventually(t, "it is asked for its health", func() bool { return read(dir+"/asked") != "" })
	_ = p.Stdin.Close()
	p.MustExit(7, "")
	wantStatus(t, lease, "released", 3)
}

// HUP can ask for a reload: the health counts from then on, too.
func TestHealthCountsAfterHUP(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	touch(t, lease+".well")
	p := startScript(t, lease, []string{"--ttl", "60s", "--health-timeout", "2s", "--health-interval", "50ms", "--health-cmd", "test -e $OWNER_LEASE.well"}, l,
		`exec 2>/dev/null; trap 'rm $OWNER_LEASE.well' HUP; echo ready; while :; do sleep 0.05; done`)
	p.Signal(syscall.SIGHUP)
	p.MustExit(122, "work not healthy: last error: --health-cmd: exit code 1")
	l.MustEnd(t)
}
