package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// table measures and prints line by line: a table takes long. Errors are printed below
// it, and returned.
func (s *scenario) table(out io.Writer, j job, sizes []int) (failed error) {
	fmt.Fprintf(out, "\n### %s. %s\n\n%s\n\n| N |", s.key, s.title, strings.ReplaceAll(s.about, "%s", j.Rest.String()))
	for _, c := range s.columns {
		fmt.Fprintf(out, " %s |", c.name)
	}
	fmt.Fprintf(out, "\n|--:|%s\n", strings.Repeat("--:|", len(s.columns)))
	var rows []row
	var notes []string
	for _, n := range sizes {
		m, why := s.affordable(n)
		if why != "" && !slices.Contains(notes, why) {
			notes = append(notes, why)
		}
		if m == 0 || len(rows) > 0 && m <= rows[len(rows)-1].n {
			continue
		}
		j.N = m
		values, err := s.inChild(j)
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s could not be measured: %v.", thousands(m), err))
			failed = errors.Join(failed, fmt.Errorf("%s, %d: %w", s.title, m, err))
			continue
		}
		rows = append(rows, row{m, values})
		fmt.Fprintf(out, "| %s |%s\n", thousands(m), s.cells(rows[len(rows)-1]))
	}
	if len(rows) > 1 {
		fmt.Fprintf(out, "| *grows* |%s\n", s.growths(lastDecade(rows)))
	}
	for _, note := range notes {
		fmt.Fprintf(out, "\n%s\n", note)
	}
	return failed
}

type row struct {
	n      int
	values []float64
}

func (s *scenario) cells(r row) string {
	var b strings.Builder
	for i, c := range s.columns {
		v := r.values[i] / c.scale
		if c.kind == each {
			v /= float64(r.n)
		}
		fmt.Fprintf(&b, " %s |", figures(v))
	}
	return b.String()
}

// lastDecade returns the rows from a tenth of the greatest N on: a constant cost shows in
// the first rows, and growth in the last.
func lastDecade(rows []row) []row {
	last := rows[len(rows)-1].n
	for len(rows) > 2 && rows[0].n*11 < last {
		rows = rows[1:]
	}
	return rows
}

func (s *scenario) growths(rows []row) string {
	var b strings.Builder
	for i, c := range s.columns {
		e, ok := exponent(rows, i)
		fmt.Fprintf(&b, " %s |", c.kind.growth(e, ok))
	}
	return b.String()
}

// exponent returns the slope of the line through the logarithms (least squares),
// false where there is none.
func exponent(rows []row, column int) (slope float64, ok bool) {
	var x, y, xx, xy float64
	for _, r := range rows {
		if r.values[column] <= 0 {
			return 0, false
		}
		u, v := math.Log(float64(r.n)), math.Log(r.values[column])
		x, y, xx, xy = x+u, y+v, xx+u*u, xy+u*v
	}
	n := float64(len(rows))
	return (n*xy - x*y) / (n*xx - x*x), true
}

// more is by how much the exponent must exceed the expected one to be in bold.
const more = 0.25

func (k kind) growth(e float64, ok bool) string {
	expected := 1.0
	if k == whole {
		expected = 0
	}
	text := strings.Replace(fmt.Sprintf("N^%.1f", e), "^-0.0", "^0.0", 1)
	switch {
	case !ok:
		return "–"
	case e > expected+more:
		return "**" + text + "**"
	}
	return text
}

// figures formats a number with three figures.
func figures(v float64) string {
	switch {
	case math.Abs(v) >= 1000:
		return thousands(int(math.Round(v)))
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
