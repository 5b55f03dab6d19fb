package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// startDemo starts the demo with an empty folder for temporary files.
func startDemo(t *testing.T, args ...string) (p *process, temp string) {
	t.Helper()
	temp = t.TempDir()
	cmd := command(append([]string{"demo"}, args...)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+temp, "TMP="+temp)
	return startCommand(t, cmd), temp
}

func mustBeEmpty(t *testing.T, folder string) {
	t.Helper()
	left, err := os.ReadDir(folder)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	svg := filepath.Join(t.TempDir(), "demo.svg")
	p, temp := startDemo(t, "--svg", svg)
	out, code := p.Wait()
	if code != 0 || p.Stderr.Len() > 0 {
		t.Fatalf("exit %d, %s\n%s", code, &p.Stderr, out)
	}
	mustBeEmpty(t, temp)
	// A column can fall between the last answer of a process and its end.
	rest := strings.Replace(out, "─✗", "✗", 1)
	for _, want := range []string{
		"three processes", "A  owns (pid ", "A  is killed", "B  owns ", " after the kill", "B  is stopped", "C  owns ", " after B's lease expired",
		"B  is resumed", ": false", "B  has lost", "is a standby again", "C  releases", "B  owns ", " after the release",
		"\n  A  ", "█✗", "\n  B  ", "█▓", "▓▒", "▒─", "─█", "\n  C  ", "B owns", "C owns", "B owns", "No two overlap", " samples of IsOwner",
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("%q is missing, or too early, in:\n%s", want, out)
		}
		rest = after
	}
	picture, err := os.ReadFile(svg)
	if err != nil || xml.Unmarshal(picture, new(struct{})) != nil || !strings.Contains(string(picture), " after the kill") {
		t.Errorf("%v: %s", err, picture)
	}
}
