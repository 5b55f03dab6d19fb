package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// columns is how wide the bars are.
const columns = 72

// glyphs are the bars' in text.
var glyphs = map[phase]rune{absent: ' ', waiting: '─', owning: '█', stoppedOwning: '▓', stopped: '▒', gone: ' '}

const legend = "█ owns   ▓ stopped, still owner   ▒ stopped   ─ standby   ✗ dead"

// text draws the timeline, and prints what was measured and how it was checked.
func (t *timeline) text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b)
	for _, s := range t.stories {
		fmt.Fprintf(&b, "  %s  %s\n", s.name, strings.TrimRight(t.row(s), " "))
	}
	fmt.Fprintf(&b, "     %s\n     %s\n\n", t.axis(), legend)
	t.measured(&b)
	fmt.Fprintf(&b, "\n  %s\n", t.conclusion())
	_, err := io.WriteString(w, b.String())
	return err
}

// row is one process's bar: each column shows the middle of its time.
func (t *timeline) row(s *story) string {
	var b strings.Builder
	before := absent
	for i := range columns {
		now := s.at(t.end * time.Duration(2*i+1) / (2 * columns))
		if s.killed && now == gone && before != gone {
			b.WriteRune('✗')
		} else {
			b.WriteRune(glyphs[now])
		}
		before = now
	}
	return b.String()
}

// axis has a label at every second.
func (t *timeline) axis() string {
	var b strings.Builder
	for s := time.Duration(0); s < t.end; s += time.Second {
		column := int(s * columns / t.end)
		if label := s.String(); b.Len() <= column && column+len(label) <= columns {
			fmt.Fprintf(&b, "%*s%s", column-b.Len(), "", label)
		}
	}
	return b.String()
}

func (t *timeline) measured(b *strings.Builder) {
	for _, o := range t.takeovers {
		fmt.Fprintf(b, "  %-20s %s owns %s later\n", o.cause+":", o.by, short(o.took()))
	}
}

// conclusion says whether the guarantee held, and how that was checked.
func (t *timeline) conclusion() string {
	v := t.check()
	said := fmt.Sprintf("No two overlap: the closest are %s apart.", short(v.closest))
	if v.overlap != nil {
		said = v.overlap.Error() + "!"
	}
	return fmt.Sprintf("%s\n  Checked from %s samples of IsOwner, taken by the processes themselves.", said, grouped(t.samples))
}

// short formats a duration for display.
func short(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 0.1:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f s", ms/1000)
}

// grouped is a number with a comma between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
