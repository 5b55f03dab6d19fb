package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/cmdtest"
)

// A kind is one of the two programs, and how its lease is given.
type kind struct {
	program string
	lease   []string
}

func (k *kind) start(t *testing.T, sub string, more ...string) *process {
	t.Helper()
	args := append([]string{sub}, k.lease...)
	return start(t, cmdtest.Prepare(exec.Command(k.program, append(args, more...)...)))
}

// varying is what differs between two runs of one program.
var varying = regexp.MustCompile(`\d+(\.\d+)?(ms|s)?`)

// form is a program's output without what varies, and without what only a process of the
// same machine can know.
func (k *kind) form(output string) string {
	output = strings.NewReplacer(k.lease[len(k.lease)-1], "LEASE", host(), "HOST", "owner-etcd", "owner").Replace(output)
	output = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).ReplaceAllString(output, "ID")
	output = regexp.MustCompile(`\((just now|\S+ ago)\)`).ReplaceAllString(output, "(AGO)")
	output = regexp.MustCompile(`, since \S+ \S+ \S+ \(AGO\)`).ReplaceAllString(output, "") // printed on a slow machine
	output = regexp.MustCompile(`(?m)^condition .*$`).ReplaceAllString(output, "condition")
	return varying.ReplaceAllString(output, "N")
}

// What both programs print, and exit with, is the same but for what varies.
func TestSameFormAsOwner(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "owner")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/ownerlease/owner/cmd/owner").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := startServer(t)
	file := kind{program, []string{"--lease", filepath.Join(t.TempDir(), "lease")}}
	etcd := kind{self()[0], []string{"--endpoints", s.Endpoint(), "--key", "/k"}}
	ofFile, ofEtcd := story(t, &file), story(t, &etcd)
	for i := range min(len(ofFile), len(ofEtcd)) {
		if ofFile[i] != ofEtcd[i] {
			t.Errorf("owner:\n%s\nowner-etcd:\n%s", ofFile[i], ofEtcd[i])
		}
	}
	if len(ofFile) != len(ofEtcd) {
		t.Errorf("%d pieces, and %d", len(ofFile), len(ofEtcd))
	}
}

// story is an ownership as all subcommands report it.
func story(t *testing.T, k *kind) (told []string) {
	t.Helper()
	tell := func(output string) { told = append(told, k.form(output)) }
	toEnd := func(sub string, more ...string) {
		t.Helper()
		p := k.start(t, sub, more...)
		out, code := p.Wait()
		tell(out + p.Stderr.String())
		told = append(told, fmt.Sprintf("%s: exit %d", sub, code))
	}
	people, programs := k.start(t, "watch"), k.start(t, "watch", "--json")
	change := func() {
		t.Helper()
		tell(people.Line())
		tell(programs.Line())
	}
	change()
	holder := k.start(t, "run", append([]string{"--ttl", "10s", "--endpoint", "unix:/e", "--meta", "a=b"}, self("test-cat")...)...)
	tell(holder.Line())
	change()
	toEnd("status")
	toEnd("status", "--json")
	toEnd("run", "-n", self()[0])
	toEnd("run", "-w", "3s", self()[0])
	toEnd("run", "--ttl", "0s", self()[0])
	toEnd("status", "more")
	_ = holder.Stdin.Close()
	holder.MustExit(0, "")
	change()
	toEnd("run", append([]string{"-w", cmdtest.Limit.String()}, self("test-exit", "7")...)...)
	return told
}
