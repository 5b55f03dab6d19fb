// Package mutant lists changes of single lines that break the library, so that the tests
// can be shown to find a broken library.
package mutant

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Mutant is the library with one line changed.
type Mutant struct {
	Name     string
	File     string // of the root package
	Old, New string // Old occurs in the file exactly once
	// Scenario of the exploration that finds it, or, where Harmless is not empty, which
	// was searched for it without success.
	Scenario string
	// Harmless says which other clause covers for this one.
	Harmless string
}

// Find returns the mutant of a name.
func Find(name string) (Mutant, error) {
	for _, m := range All {
		if m.Name == name {
			return m, nil
		}
	}
	return Mutant{}, fmt.Errorf("there is no mutant %q", name)
}

// Overlay writes, into dir, what makes "go build -overlay" build the mutant of the
// sources in root, and returns the path to give to it.
func (m Mutant) Overlay(root, dir string) (string, error) {
	return Overlay(root, dir, m)
}

// Overlay is that of several mutants at once, each of another file: for what more than
// one line guards against.
func Overlay(root, dir string, all ...Mutant) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, m := range all {
		original, changed := filepath.Join(root, m.File), filepath.Join(dir, m.File)
		b, err := os.ReadFile(original)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(b), m.Old); n != 1 {
			return "", fmt.Errorf("mutant %q: %s has its line %d times, and not once: %s", m.Name, m.File, n, m.Old)
		}
		if err := os.WriteFile(changed, []byte(strings.Replace(string(b), m.Old, m.New, 1)), 0o600); err != nil {
			return "", err
		}
		replace[original] = changed
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, overlay, 0o600)
}
