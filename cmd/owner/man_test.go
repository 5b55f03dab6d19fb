package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
)

var update = flag.Bool("update", false, "write the manual page")

const manPage = "../../packaging/man/owner.1"

// The manual page is made from the help texts: go generate ./cmd/owner
func TestManPageIsCurrent(t *testing.T) {
	t.Parallel()
	page := page(program())
	if *update {
		if err := os.WriteFile(manPage, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(manPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.ReplaceAll(committed, []byte("\r\n"), []byte("\n")), page) {
		t.Error("packaging/man/owner.1 is stale: run go generate ./cmd/owner")
	}
	for _, sub := range program().Commands {
		if !bytes.Contains(page, []byte("\n.SH OWNER "+strings.ToUpper(sub.Name)+"\n")) {
			t.Errorf("there is nothing about %s", sub.Name)
		}
	}
}

// groff has nothing to warn of.
func TestManPageIsClean(t *testing.T) {
	t.Parallel()
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("there is no groff to check the page with: install groff")
	}
	cmd := exec.Command(groff, "-man", "-ww", "-z", "-K", "utf8", manPage)
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "preconv") {
		t.Skipf("this groff is too small: install groff; %s", out)
	}
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// page writes the program's help as roff.
func page(program *cli.Command) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".\\\" Generated from the help texts: go generate ./cmd/owner\n.TH OWNER 1\n")
	fmt.Fprintf(&b, ".SH NAME\nowner \\- %s\n", roff(program.Usage))
	b.WriteString(".SH SYNOPSIS\n")
	for i, sub := range program.Commands {
		if i > 0 {
			b.WriteString(".br\n")
		}
		fmt.Fprintf(&b, ".B owner %s\n[options] %s\n", sub.Name, roff(sub.ArgsUsage))
	}
	b.WriteString(".SH DESCRIPTION\n")
	paragraphs(&b, program.Description)
	for _, sub := range program.Commands {
		fmt.Fprintf(&b, ".SH OWNER %s\nowner %s \\- %s\n", strings.ToUpper(sub.Name), sub.Name, roff(sub.Usage))
		paragraphs(&b, sub.Description)
		options(&b, sub)
	}
	return b.Bytes()
}

func options(b *bytes.Buffer, sub *cli.Command) {
	b.WriteString(".SS Options\n")
	for _, f := range sub.Flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		// As the help prints it: names, a tab, and what they do.
		names, usage, _ := strings.Cut(f.String(), "\t")
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(names), roff(usage))
	}
	b.WriteString(".TP\n.B \\-\\-help, \\-h\nshow help\n")
}

// paragraphs writes lines that are indented as they are, and fills the others.
func paragraphs(b *bytes.Buffer, text string) {
	for _, part := range strings.Split(text, "\n\n") {
		heading, rest, more := strings.Cut(part, "\n")
		if more && heading == strings.ToUpper(heading) {
			fmt.Fprintf(b, ".SS %s\n", roff(heading))
			part = rest
		} else {
			b.WriteString(".PP\n")
		}
		if !strings.HasPrefix(part, "  ") {
			b.WriteString(roff(part) + "\n")
			continue
		}
		b.WriteString(".nf\n" + roff(part) + "\n.fi\n")
	}
}

// roff escapes what roff would obey.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(strings.TrimRight(text, " \n"))
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
