package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// short writes a duration with no more digits than mean something.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < 0:
		return "−" + short(-d)
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	}
	unit, name := time.Second, "s"
	switch {
	case d < 999500*time.Nanosecond:
		unit, name = time.Microsecond, "µs"
	case d < 999500*time.Microsecond:
		unit, name = time.Millisecond, "ms"
	}
	if d%unit == 0 {
		return fmt.Sprintf("%d %s", d/unit, name)
	}
	return fmt.Sprintf("%.*f %s", decimals(float64(d)/float64(unit)), float64(d)/float64(unit), name)
}

// decimals leaves three digits of a number below a thousand, two of one below ten.
func decimals(x float64) int {
	switch {
	case x < 9.995:
		return 2
	case x < 99.95:
		return 1
	}
	return 0
}

// signed formats a slack, which is positive if time is left.
func signed(d time.Duration) string {
	if d > 0 {
		return "+" + short(d)
	}
	return short(d)
}

// times writes a ratio with two digits.
func times(ratio float64) string {
	if ratio < 10 {
		return fmt.Sprintf("%.2g×", ratio)
	}
	step := math.Pow(10, math.Floor(math.Log10(ratio))-1)
	whole := fmt.Sprintf("%.0f", math.Round(ratio/step)*step)
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return whole + "×"
}

// table writes a table; the first row is its head.
func table(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}
