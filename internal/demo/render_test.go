package demo

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := three().text(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{
		"\n  A  ██████████✗\n",
		"\n  B  ──────────███████████▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒───────────██████████\n",
		"\n     0s        1s        2s",
		"A is killed:         B owns 1.6 ms later\n",
		"C releases:          B owns 0.09 ms later\n",
		"No two overlap: the closest are 2.0 ms apart.",
		"1,234,567 samples",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

// No two rows show an owner in the same column, as each column shows one moment.
func TestColumnsHaveOneOwner(t *testing.T) {
	t.Parallel()
	tl := three()
	var rows [][]rune
	for _, s := range tl.stories {
		rows = append(rows, []rune(tl.row(s)))
	}
	for i := range columns {
		owners := 0
		for _, r := range rows {
			if r[i] == glyphs[owning] || r[i] == glyphs[stoppedOwning] {
				owners++
			}
		}
		if owners > 1 {
			t.Errorf("column %d has %d owners", i, owners)
		}
	}
}

func TestSVG(t *testing.T) {
	t.Parallel()
	svg := three().svg()
	if !bytes.Equal(svg, three().svg()) {
		t.Error("it differs from one time to the next")
	}
	if len(svg) > 10_000 {
		t.Errorf("it is %d bytes", len(svg))
	}
	texts, count := elements(t, svg)
	for _, want := range []string{
		headline, "A", "B", "C", "pid 12", "kill <-9>", "stop", "resume", "1.6 ms after the kill", "0.09 ms after the release",
		"0s", "7s", "owns", "standby", "No two overlap: the closest are 2.0 ms apart.",
	} {
		if !texts[want] {
			t.Errorf("%q is not in it: %v", want, texts)
		}
	}
	if count["title"] != 1 || count["desc"] != 1 || count["image"] != 0 || count["script"] != 0 {
		t.Errorf("got %v", count)
	}
	for _, want := range []string{`role="img"`, "prefers-color-scheme: dark", `width="760"`} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("%q is not in it", want)
		}
	}
	if n := bytes.Count(svg, []byte(`http`)); n != 1 {
		t.Errorf("it names %d addresses; only the namespace is one", n)
	}
}

// elements reads the picture as XML: its texts, and how many there are of each
// element.
func elements(t *testing.T, svg []byte) (texts map[string]bool, count map[string]int) {
	t.Helper()
	texts, count = map[string]bool{}, map[string]int{}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts, count
		}
		if err != nil {
			t.Fatalf("%v: %s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			count[token.Name.Local]++
		case xml.CharData:
			texts[string(token)] = true
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0.00 ms", 42 * time.Microsecond: "0.04 ms", 1649 * time.Microsecond: "1.6 ms", 12345 * time.Microsecond: "12 ms", 2345 * time.Millisecond: "2.35 s",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
