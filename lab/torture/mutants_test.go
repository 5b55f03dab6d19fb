package main

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/mutant"
)

var withMutants = flag.Bool("mutants", false, "torture libraries that are broken on purpose")

// The run can fail: it notices a library that is broken. Only what goes wrong often is
// tried here; what needs a pause of some microseconds is for the exploration.
func TestMutants(t *testing.T) {
	if !*withMutants {
		t.Skip("takes half a minute: run it with go test -C lab -run TestMutants ./torture -mutants")
	}
	for _, name := range []string{"IsOwner does not ask the clock", "guard excludes no one", "lost lease is released at once"} {
		t.Run(name, func(t *testing.T) {
			m, err := mutant.Find(name)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			overlay, err := m.Overlay("../..", dir)
			if err != nil {
				t.Fatal(err)
			}
			worker := filepath.Join(dir, "worker")
			if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", worker, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			// What the faults meet is chance: one run in five or so meets nothing.
			for seed := range 5 {
				// The worker is also a director, of workers like itself.
				out, err := exec.Command(worker, "-for", "10s", "-seed", fmt.Sprint(seed+1), "-dir", dir).CombinedOutput()
				t.Logf("%s", out)
				if err != nil && strings.Contains(string(out), "VIOLATED") {
					return
				}
			}
			t.Error("was not noticed")
		})
	}
}
