//go:build unix

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The commands of docs/uses/etcd-and-files.md do what it shows. The test of cmd/owner that
// runs the pages runs this one, too, with a server and this program.
func TestPage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash")
	}
	s := startServer(t)
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("go", "test", "-count=1", "-v", "-run", "^TestPages$/^etcd-and-files.md$", "../../../cmd/owner")
	cmd.Env = append(os.Environ(), "OWNER_ETCD_PROGRAM="+bin+"/owner-etcd", "ETCDCTL_ENDPOINTS="+s.Endpoint())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestPages/etcd-and-files.md") {
		t.Errorf("%v: %s", err, out)
	}
}
