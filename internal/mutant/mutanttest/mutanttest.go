// Package mutanttest shows that a package's tests find the package broken.
package mutanttest

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ownerlease/owner/internal/mutant"
)

// A Case is the package with a line or two changed, so that it breaks a promise, and the
// test that finds it.
type Case struct {
	Name    string
	By      string // as go test -run takes it
	Changes []mutant.Mutant
}

// tries has each case tried again: what a fault meets on a busy machine is chance.
const tries = 3

// Found demands that each case is found. The tests, and the package, are those of the
// working folder.
func Found(t *testing.T, cases []Case) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			test := build(t, c)
			for range tries {
				out, err := exec.Command(test, "-test.run", c.By, "-test.v").CombinedOutput()
				t.Logf("%s", out)
				if errors.As(err, new(*exec.ExitError)) {
					return
				}
			}
			t.Error("was not found")
		})
	}
}

func build(t *testing.T, c Case) (program string) {
	t.Helper()
	dir := t.TempDir()
	overlay, err := mutant.Overlay(".", dir, c.Changes...)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "mutant.test")
	if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("cannot be built: %v\n%s", err, out)
	}
	return program
}

// Apply demands that each case's lines are there, so that none is lost when the package
// changes.
func Apply(t *testing.T, cases []Case) {
	for _, c := range cases {
		if _, err := mutant.Overlay(".", t.TempDir(), c.Changes...); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}
