package owner

import (
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/mutant"
)

var withMutants = flag.Bool("mutants", false, "build each mutant, and demand that the exploration finds it")

// The exploration can fail: it finds each mutant, and prints the trace. Those that it
// does not find are harmless, each for a reason.
func TestMutants(t *testing.T) {
	if !*withMutants {
		t.Skip("builds the package two dozen times: run it with go test -run TestMutants -mutants -v .")
	}
	for _, m := range mutant.All {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			overlay, err := m.Overlay(".", dir)
			must(t, err)
			test := filepath.Join(dir, "mutant.test")
			if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", test, ".").CombinedOutput(); err != nil {
				t.Fatalf("cannot be built: %v\n%s", err, out)
			}
			out, err := exec.Command(test, "-test.run", "^TestExplore$/^"+regexp.QuoteMeta(strings.ReplaceAll(m.Scenario, " ", "_"))+"$", "-test.v", "-explore").CombinedOutput()
			var failed *exec.ExitError
			switch {
			case err != nil && !errors.As(err, &failed) || !strings.Contains(string(out), "states"):
				t.Fatalf("was not explored: %v\n%s", err, out)
			case m.Harmless != "" && err != nil:
				t.Errorf("is said to be harmless (%s), and is not:\n%s", m.Harmless, out)
			case m.Harmless == "" && err == nil:
				t.Errorf("was not found:\n%s", out)
			}
			t.Logf("%s: %q becomes %q\n%s", m.File, m.Old, m.New, out)
		})
	}
}

// Each mutant's line is there, so that none is lost when the library changes.
func TestMutantsApply(t *testing.T) {
	for _, m := range mutant.All {
		if _, err := m.Overlay(".", t.TempDir()); err != nil {
			t.Error(err)
		}
		if !isScenario(m.Scenario) {
			t.Errorf("mutant %q: there is no scenario %q", m.Name, m.Scenario)
		}
	}
}

func isScenario(name string) bool {
	for _, s := range scenarios {
		if s.name == name {
			return true
		}
	}
	return false
}
