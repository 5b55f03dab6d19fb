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

var withMutants = flag.Bool("mutants", false, "run with a package reach that is broken on purpose")

// Package reach, with what it promises broken in one line.
var mutants = []mutant.Mutant{
	{
		Name: "acknowledgement after the handler",
		File: "accept.go", Old: "\tif addressed && !s.accept(w, c) {\n\t\treturn\n\t}\n", New: "\tif addressed {\n\t\tdefer s.accept(w, c)\n\t}\n",
	},
	{
		Name: "retry after the acknowledgement",
		File: "roundtrip.go", Old: "case !c.repeatable():", New: "case false:",
	},
	{
		Name: "the id is not compared",
		File: "accept.go", Old: "case addressed && to != s.to || !s.begin():", New: "case addressed && to != s.to && false || !s.begin():",
	},
	{
		Name: "forwarded twice",
		File: "forward.go", Old: "if len(r.Header[headerForwarded]) > 0 {", New: "if false {",
	},
	{
		Name: "an owner that moves is replaced",
		File: "holder.go", Old: "if last != nil && last.rec.InstanceID == rec.InstanceID {", New: "if last != nil && last.rec.InstanceID == rec.InstanceID && last.leadsTo(&rec) {",
	},
}

// The run can fail: it notices a package that is broken.
func TestMutants(t *testing.T) {
	if !*withMutants {
		t.Skip("takes half a minute: run it with go test -C lab -run TestMutants ./calls -mutants")
	}
	for _, m := range mutants {
		t.Run(m.Name, func(t *testing.T) {
			dir := t.TempDir()
			overlay, err := m.Overlay("../../reach", dir)
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, "calls")
			if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for seed := range 5 { // what the faults meet is chance
				out, err := exec.Command(program, "-for", "5s", "-seed", fmt.Sprint(seed+1), "-dir", dir).CombinedOutput()
				t.Logf("%s", out)
				if err != nil && strings.Contains(string(out), "VIOLATED") {
					return
				}
			}
			t.Error("was not noticed")
		})
	}
}
