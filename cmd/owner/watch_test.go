package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/cmdtest"
)

// what is a line of "owner watch" without its time.
func (p *process) what() string {
	p.T.Helper()
	_, what, _ := strings.Cut(p.Line(), "  ")
	return what
}

// object is a line of "owner watch --json".
func (p *process) object() map[string]any {
	p.T.Helper()
	line, fields := p.Line(), map[string]any{}
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		p.T.Errorf("%v: %s", err, line)
	}
	return fields
}

func TestWatch(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	people, programs := start(t, "watch", "--lease", lease), start(t, "watch", "--json", "--lease", lease)
	next := func(says string, owned any) map[string]any {
		t.Helper()
		got := people.what()
		if strings.HasPrefix(got, "instance ") { // seen before its record was there
			got = people.what()
		}
		if !strings.HasPrefix(got, says) {
			t.Errorf("got %q, want %q", got, says)
		}
		fields := programs.object()
		if fields["instance_id"] != nil && fields["pid"] == nil {
			fields = programs.object()
		}
		if fields["owned"] != owned || fields["lease"] != lease {
			t.Errorf("got %v", fields)
		}
		return fields
	}
	next("it has no owner", false)
	host, _ := os.Hostname()
	for range 2 {
		holder := hold(t, lease, "--endpoint", "here")
		who := fmt.Sprintf("pid %d on %s", holder.Cmd.Process.Pid, host)
		if got := next(who+" owns it, epoch ", true); got["pid"] != float64(holder.Cmd.Process.Pid) || got["endpoint"] != "here" {
			t.Errorf("%v", got)
		}
		_ = holder.Stdin.Close()
		holder.Wait()
		if got := next("it has no owner: "+who+" owned it for ", false); got["pid"] != nil || got["owned_for"] == nil {
			t.Errorf("%v", got)
		}
	}
	if err := os.WriteFile(lease, []byte("not a record"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := next("cannot be read: ", nil); got["error"] == nil {
		t.Errorf("%v", got)
	}
	if err := os.Remove(lease); err != nil {
		t.Fatal(err)
	}
	next("it has no owner", false)
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	holder := hold(t, lease)
	host, _ := os.Hostname()
	says := fmt.Sprintf("revoked: pid %d on %s since ", holder.Cmd.Process.Pid, host)
	out, stderr, code := ownerCommand(t, "revoke", "--lease", lease)
	if code != 0 || !strings.HasPrefix(out, says) || !strings.Contains(out, ", epoch ") || strings.Count(out, "\n") != 1 || stderr != "" {
		t.Errorf("exit %d, %q, want %q; %s", code, out, says, stderr)
	}
	if _, code := holder.Wait(); code != 122 || !strings.HasPrefix(holder.Stderr.String(), "owner: lost the lease, and ended COMMAND: lease revoked") {
		t.Errorf("its owner: exit %d, %q", code, &holder.Stderr)
	}
	wantStatus(t, lease, "revoked", 3)
	text, _, _ := ownerCommand(t, "status", "--lease", lease)
	if !strings.Contains(text, "\ncondition  revoked: the lease was revoked, and its owner has stopped\n") {
		t.Errorf("%s", text)
	}
	out, stderr, code = ownerCommand(t, "revoke", "--lease", lease)
	if code != 3 || out != "" || stderr != "owner: "+lease+" has no owner\n" {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
}

func TestRevokeHandsOver(t *testing.T) {
	t.Parallel()
	lease := leaseIn(t)
	first := hold(t, lease)
	second := start(t, "run", "--lease", lease, "--quiet", "--wait", cmdtest.Limit.String(), self(), "test-cat")
	if _, stderr, code := ownerCommand(t, "revoke", "--lease", lease); code != 0 {
		t.Errorf("exit %d, %s", code, stderr)
	}
	first.Wait()
	if got := second.Line(); got != "started" {
		t.Errorf("got %q", got)
	}
	_ = second.Stdin.Close()
	if _, code := second.Wait(); code != 0 {
		t.Errorf("the second: exit %d, %s", code, &second.Stderr)
	}
}
