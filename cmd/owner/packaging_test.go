package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
)

const packaging = "../../packaging"

// understood has the real flags of the program read a command line, and runs nothing.
func understood(ctx context.Context, args []string) error {
	if len(args) < 3 || filepath.Base(args[0]) != "owner" {
		return errors.New("no command line of owner")
	}
	p := program()
	reached := false
	for _, sub := range p.Commands {
		sub.Action = func(_ context.Context, c *cli.Command) error {
			reached = true
			if sub.Name == "run" && (c.String("lease") == "" || !c.Args().Present()) {
				return errors.New("without a lease, or without COMMAND")
			}
			return nil
		}
		sub.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err }
	}
	p.Action = func(context.Context, *cli.Command) error { return errors.New("no such subcommand") }
	p.Writer, p.ErrWriter = io.Discard, io.Discard
	p.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	if err := p.Run(ctx, args); err != nil {
		return err
	}
	if !reached {
		return errors.New("nothing would be run")
	}
	return nil
}

func parses(t *testing.T, from string, args []string) {
	t.Helper()
	if err := understood(t.Context(), args); err != nil {
		t.Errorf("%s: %q: %v", from, args, err)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(packaging, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files
}

// What the program would refuse is seen.
func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"owner run --lease x --no-such-flag -- true", "owner run -- true", "owner run --lease x", "owner rum --lease x -- true", "other run --lease x true"} {
		if understood(t.Context(), strings.Fields(wrong)) == nil {
			t.Error(wrong)
		}
	}
}

// Each command line in the examples is one that this program understands.
func TestUnitsCommandLines(t *testing.T) {
	t.Parallel()
	for _, file := range glob(t, "systemd/*.service") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			if exec, ok := strings.CutPrefix(line, "ExecStart="); ok {
				parses(t, file, strings.Fields(exec))
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s has %d command lines", file, n)
		}
		if !strings.Contains(string(text), "\nKillMode=mixed\n") {
			t.Errorf("%s: COMMAND would get each TERM twice", file)
		}
	}
}

func TestPlist(t *testing.T) {
	t.Parallel()
	for _, file := range glob(t, "launchd/*.plist") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var plist struct {
			Dict struct {
				Keys  []string `xml:"key"`
				Array struct {
					Strings []string `xml:"string"`
				} `xml:"array"`
				Label string `xml:"string"`
			} `xml:"dict"`
		}
		d := xml.NewDecoder(bytes.NewReader(text))
		if err := d.Decode(&plist); err != nil {
			t.Fatal(err)
		}
		parses(t, file, plist.Dict.Array.Strings)
		if plist.Dict.Label+".plist" != filepath.Base(file) {
			t.Errorf("%s: the label is %s", file, plist.Dict.Label)
		}
		if plutil, err := exec.LookPath("plutil"); err == nil {
			if out, err := exec.Command(plutil, "-lint", file).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
	}
}

// systemd takes the units. The program must exist for it: this test's own stands in.
func TestUnitsAreValid(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze to check the units with: install systemd")
	}
	dir := t.TempDir()
	var units []string
	for _, file := range append(glob(t, "systemd/*.service"), glob(t, "systemd/*.timer")...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("/usr/bin/owner "), []byte(self()+" "))
		unit := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(unit, text, 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no", "--recursive-errors=no"}, units...)...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "owner-example") {
		t.Errorf("%v: %s", err, out)
	}
}
