//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/internal/cmdtest"
)

// standing is a standby in this process. It is released when the test is over.
func standing(t *testing.T, lease string) *owner.Owner {
	t.Helper()
	o, err := owner.Join(context.Background(), owner.Config{LeasePath: lease, TTL: 10 * time.Second, Standby: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Release() })
	return o
}

// wantHandover runs "owner handover", and checks its end and what it says.
func wantHandover(t *testing.T, lease string, code int, says string, flags ...string) (stdout string) {
	t.Helper()
	stdout, stderr, got := ownerCommand(t, append([]string{"handover", "--lease", lease}, flags...)...)
	if got != code || !strings.Contains(stdout+stderr, says) || (code == 0) != (stderr == "") || strings.Count(stderr, "\n") > 1 {
		t.Errorf("handover %v: exit %d, want %d and %q: %q, %q", flags, got, code, says, stdout, stderr)
	}
	return stdout
}

// COMMAND ends its work in its own time, and the lease is its own until then.
func TestHandover(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, `trap 'sleep 0.3; echo done; exit 7' TERM; echo ready; while :; do sleep 0.05; done`)
	next := standing(t, lease)
	elected := make(chan bool, 1)
	go func() {
		<-next.Elected()
		elected <- l.Ended(t)
	}()
	wantHandover(t, lease, 0, fmt.Sprint("instance ", next.StandbyID()), "--to", next.StandbyID())
	if !<-elected {
		t.Error("the next one owns while COMMAND runs")
	}
	if got := p.Line(); got != "done" {
		t.Errorf("got %q", got)
	}
	if _, code := p.Wait(); code != 7 { // the shell may report that its sleep was ended, too
		t.Errorf("exit %d: %s", code, &p.Stderr)
	}
}

// A COMMAND that TERM ends has done what it was asked.
func TestReplace(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, "echo ready; exec sleep 1000")
	standing(t, lease) // first in line, and not meant
	next := start(t, "run", "--replace", "--lease", lease, self(), "test-cat")
	if got := next.Line(); got != "started" {
		t.Fatalf("got %q", got)
	}
	if !l.Ended(t) {
		t.Error("two COMMANDs at once")
	}
	p.MustExit(0, "")
	if got := wantStatus(t, lease, "live", 0)["pid"]; got != float64(next.Cmd.Process.Pid) {
		t.Errorf("pid %v owns", got)
	}
	_ = next.Stdin.Close()
	next.MustExit(0, "")
}

// Without an owner, or with a dead one, --replace just owns.
func TestReplaceNone(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	for range 2 {
		p := hold(t, lease, "--replace")
		p.Signal(syscall.SIGKILL)
		p.Wait()
	}
}

func TestReplaceIsAskedOnce(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	startScript(t, lease, nil, l, cmdtest.Stubborn)
	named := standing(t, lease).StandbyID()
	if err := owner.RequestHandover(t.Context(), owner.Config{LeasePath: lease}, named); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := ownerCommand(t, "run", "--replace", "-w", "0.5", "--lease", lease, self(), "test-exit", "0")
	if code != 124 || !strings.Contains(stderr, "waits until it ends") || !strings.Contains(stderr, named) {
		t.Errorf("exit %d, %q", code, stderr)
	}
	wantStatus(t, lease, "live", 0)
}

// What cannot be handed over is said, with what to do, and costs no owner the lease.
func TestHandoverRefused(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	wantHandover(t, lease, 3, "no owner to be asked: start one")
	holder := hold(t, lease)
	wantHandover(t, lease, 125, "the owner needs time to end its work", "--timeout", "0")
	wantHandover(t, lease, 125, "cannot be negative", "--timeout", "-1")
	wantHandover(t, lease, 125, "invalid duration", "--timeout", "soon")
	wantHandover(t, lease, 125, "InstanceID of a standby", "--to", "the other one")
	wantHandover(t, lease, 125, "--to is empty", "--to", "")
	wantHandover(t, lease, 125, "one argument too many", "more")
	id, _ := wantStatus(t, lease, "live", 0)["instance_id"].(string)
	wantHandover(t, lease, 125, "owns the lease already", "--to", id)
	for _, flags := range [][]string{{"-n"}, {"-w", "0"}} {
		_, stderr, code := ownerCommand(t, append(append([]string{"run", "--replace", "--lease", lease}, flags...), self(), "test-exit", "0")...)
		if code != 125 || !strings.Contains(stderr, "--replace waits") {
			t.Errorf("%v: exit %d, %q", flags, code, stderr)
		}
	}
	holder.Types("still here\n")
	if got := holder.Line(); got != "still here" {
		t.Errorf("got %q", got)
	}
	holder.Signal(syscall.SIGKILL)
	holder.Wait()
	wantHandover(t, lease, 3, "no owner to be asked: start one")
}

// A stopped owner keeps what is left of its lease, and steps down when it continues.
func TestHandoverOfAHungOwner(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	holder := hold(t, lease, "--ttl", "60")
	holder.Signal(syscall.SIGSTOP)
	wantHandover(t, lease, 124, "owner revoke --lease "+lease, "--timeout", "0.3")
	fields, _, code := status(t, lease)
	if code != 0 || fields["owned"] != true {
		t.Errorf("it has cost the lease: %v", fields)
	}
	holder.Signal(syscall.SIGCONT)
	holder.MustExit(0, "")
	wantHandover(t, lease, 3, "no owner to be asked")
}

// An owner that hangs, or is killed, has not stepped down when its lease ends.
func TestHandoverEndsOtherwise(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sig  syscall.Signal
		says string
	}{
		"hung": {syscall.SIGSTOP, "the owner hangs, and its lease has expired, and "},
		"dead": {syscall.SIGKILL, "the owner has ended without stepping down, and "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease, l := leaseIn(t), cmdtest.NewLife(t)
			p := startScript(t, lease, []string{"--ttl", "6s"}, l, cmdtest.Stubborn)
			a := start(t, "handover", "--lease", lease, "--timeout", cmdtest.Limit.String())
			eventually(t, "asked", func() bool { _, err := os.Stat(lease + ".handover"); return err == nil })
			p.Signal(c.sig)
			a.MustExit(3, c.says+lease+" has no owner: no standby was there; start one")
		})
	}
}

// One that does not end keeps the lease.
func TestHandoverIgnored(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, []string{"--grace", "0"}, l, cmdtest.Stubborn)
	wantHandover(t, lease, 124, "the request stays", "--timeout", "0.3")
	wantStatus(t, lease, "live", 0)
	if err := os.Remove(lease + ".handover"); err != nil {
		t.Fatal(err)
	}
	a := start(t, "handover", "--lease", lease)
	eventually(t, "asked", func() bool { _, err := os.Stat(lease + ".handover"); return err == nil })
	a.Signal(syscall.SIGTERM)
	if _, code := a.Wait(); code != 128+15 || !strings.Contains(a.Stderr.String(), "the request stays") {
		t.Errorf("exit %d, %s", code, &a.Stderr)
	}
	p.Signal(syscall.SIGKILL)
	l.MustEnd(t)
}

// A standby that has gone costs the others a moment; the owner that no standby follows may
// come back.
func TestHandoverToNone(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	gone := uuid.NewString()
	hold(t, lease)
	next := standing(t, lease)
	out := wantHandover(t, lease, 5, gone+" has not taken over", "--to", gone)
	if <-next.Elected(); !strings.Contains(out, next.InstanceID()) {
		t.Errorf("%q, and %s owns", out, next.InstanceID())
	}
	_ = next.Release()

	hold(t, lease)
	wantHandover(t, lease, 3, "no standby was there")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := make(chan bool, 9)
	done := make(chan error)
	go func() {
		done <- owner.Run(ctx, owner.Config{LeasePath: lease, TTL: 10 * time.Second}, func(ctx context.Context, _ *owner.Owner) error {
			begun <- true
			<-ctx.Done()
			return nil
		})
	}()
	<-begun
	wantHandover(t, lease, 5, "owns again: no standby was there")
	<-begun
	cancel()
	<-done
}

// Of two at once the first one's standby is named, and the second is told.
func TestHandoverTwice(t *testing.T) {
	t.Parallel()
	lease, l := leaseIn(t), cmdtest.NewLife(t)
	p := startScript(t, lease, nil, l, `trap 'read x; exit 0' TERM; echo ready; while :; do sleep 0.05; done`)
	first, second := standing(t, lease), standing(t, lease)
	a := start(t, "handover", "--lease", lease, "--to", first.StandbyID())
	s, err := owner.FileStore(lease)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "asked", func() bool {
		v, err := s.Look(t.Context())
		return err == nil && v.HandoverRequested
	})
	wantHandover(t, lease, 125, first.StandbyID(), "--to", second.StandbyID())
	p.Types("\n")
	if _, code := a.Wait(); code != 0 {
		t.Errorf("exit %d: %s", code, &a.Stderr)
	}
	<-first.Elected()
	if _, code := p.Wait(); code != 0 { // the shell reports that its sleep was ended, too
		t.Errorf("exit %d: %s", code, &p.Stderr)
	}
}
