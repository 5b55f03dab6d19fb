package main

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	beChild()
	m.Run()
}

// What a few of each must show: the least and the most of one row's N, as they are
// printed.
type bounds struct{ least, most float64 }

var positive = bounds{1e-9, 1e9}

// some more are at work at any moment.
func atLeast(n, some int) bounds { return bounds{float64(n), float64(n + some)} }

// want returns the bounds of a table's cells.
func want(key string, n int) []bounds {
	many := func(descriptors bounds) []bounds {
		return []bounds{positive, positive, positive, {0, 1e9}, descriptors, atLeast(n, n+8), positive}
	}
	switch key {
	case "a", "b":
		return many(atLeast(2*n, 8))
	case "c":
		return many(atLeast(1, 8+16)) // as below, and a descriptor for each lease at which it is first in line
	case "f":
		return many(atLeast(1, 8)) // the watch, and the owners' process
	case "d":
		return []bounds{positive, positive, positive, positive, positive, positive}
	}
	return []bounds{positive, positive, positive}
}

func TestTables(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what a process uses is read from Linux's /proc")
	}
	var out bytes.Buffer
	err := run([]string{"-n", "5,10", "-processes", "2,3", "-rest", "50ms", "-dir", t.TempDir()}, &out)
	if err != nil {
		t.Fatal(err)
	}
	tables := strings.Split(out.String(), "\n### ")[1:]
	if len(tables) != len(scenarios) {
		t.Fatalf("%d tables:\n%s", len(tables), &out)
	}
	for i, s := range scenarios {
		sizes := []int{5, 10}
		if s.processes {
			sizes = []int{2, 3}
		}
		checkTable(t, s, tables[i], sizes)
	}
}

func checkTable(t *testing.T, s *scenario, text string, sizes []int) {
	var lines [][]string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "|") {
			lines = append(lines, strings.Split(strings.Trim(line, "|"), "|"))
		}
	}
	if len(lines) != len(sizes)+3 || !strings.HasPrefix(text, s.key+". ") {
		t.Fatalf("not a title, a head, its line, a row for each N, and the growth:\n%s", text)
	}
	for _, line := range lines {
		if len(line) != 1+len(s.columns) {
			t.Fatalf("%d cells in %q", len(line), line)
		}
	}
	for i, n := range sizes {
		row := lines[2+i]
		if strings.TrimSpace(row[0]) != strconv.Itoa(n) {
			t.Errorf("%s: row %d is of %s", s.key, n, row[0])
		}
		for k, bounds := range want(s.key, n) {
			v, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(row[1+k]), ",", ""), 64)
			if err != nil || v < bounds.least || v > bounds.most {
				t.Errorf("%s, %d, %s: %q is not between %g and %g", s.key, n, s.columns[k].name, row[1+k], bounds.least, bounds.most)
			}
		}
	}
}

// What cannot be measured does not keep the rest from being measured.
func TestFailedRow(t *testing.T) {
	var out bytes.Buffer
	err := run([]string{"-only", "e", "-n", "1,2", "-dir", filepath.Join(t.TempDir(), "none")}, &out)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, note := range []string{"\n1 could not be measured: ", "\n2 could not be measured: "} {
		if !strings.Contains(out.String(), note) {
			t.Errorf("%q is not in\n%s", note, &out)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, list := range []string{"", "1,", "0", "-1", "x", "1.5"} {
		if err := run([]string{"-n", list}, new(bytes.Buffer)); err == nil {
			t.Errorf("-n %q", list)
		}
	}
}

func TestGrowth(t *testing.T) {
	rows := []row{ // constant, linear, quadratic, none
		{1, []float64{7, 99, 99, 1}}, {100, []float64{5, 300, 1, 1}}, {300, []float64{5, 900, 9, 0}}, {1000, []float64{5, 3000, 100, 1}},
	}
	wants := [][]string{
		whole:  {"N^0.0", "**N^1.0**", "**N^2.0**", "–"},
		each:   {"N^0.0", "N^1.0", "**N^2.0**", "–"},
		growth: {"N^0.0", "N^1.0", "**N^2.0**", "–"},
	}
	for k, texts := range wants {
		s := &scenario{columns: make([]column, len(texts))}
		for i := range s.columns {
			s.columns[i].kind = kind(k)
		}
		if got, want := s.growths(lastDecade(rows)), " "+strings.Join(texts, " | ")+" |"; got != want {
			t.Errorf("%d: %s, not %s", k, got, want)
		}
	}
}

func TestLastDecade(t *testing.T) {
	rows := []row{{n: 1}, {n: 10}, {n: 99}, {n: 1000}, {n: 10000}}
	for last, first := range []int{0: 1, 1: 1, 2: 10, 3: 99, 4: 1000} {
		if got := lastDecade(rows[:last+1])[0].n; got != first {
			t.Errorf("up to %d: from %d, not %d", rows[last].n, got, first)
		}
	}
	if got := lastDecade([]row{{n: 1}, {n: 1000}}); len(got) != 2 {
		t.Error("one row shows no growth")
	}
}

func TestFigures(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234.4: "1,234", 1234567: "1,234,567", -1234: "-1,234", -123456: "-123,456",
	} {
		if got := figures(v); got != want {
			t.Errorf("%g: %s, not %s", v, got, want)
		}
	}
}

func TestTooManyDescriptors(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what a process uses is read from Linux's /proc")
	}
	const n = 1 << 28 // more than a kernel allows
	m, why := withDescriptors(2)(n)
	if m <= 0 || m >= n || !strings.Contains(why, "268,435,456 take 536,870,962 descriptors") {
		t.Errorf("%d: %s", m, why)
	}
	if m, why := withDescriptors(2)(3); m != 3 || why != "" {
		t.Errorf("%d: %s", m, why)
	}
}
