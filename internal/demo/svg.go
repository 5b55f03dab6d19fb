package demo

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"time"
)

// Where things are in the picture, in pixels.
const (
	width     = 760
	plotLeft  = 96
	plotRight = 736
	rowsTop   = 70
	rowHeight = 78
	barTop    = 22 // in its row
	barHeight = 24
	footer    = 108
)

// style has two sets of colours: a README is read in light and in dark.
const style = `
  text { font: 11.5px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #59636e; }
  .title, .name { font-size: 16px; font-weight: 600; fill: #1f2328; }
  .strong { font-weight: 600; fill: #1f2328; }
  .back { fill: #ffffff; stroke: #d1d9e0; }
  .grid { stroke: #d1d9e0; stroke-dasharray: 2 4; }
  .link { stroke: #1f2328; stroke-dasharray: 3 3; }
  .tick { stroke: #59636e; }
  .owns { fill: #1a7f37; }
  .waits { fill: #c8d1da; }
  .stops { fill: url(#stopped); }
  .hangs { fill: url(#hanging); }
  .ground { fill: #fff1e5; }
  .stripe { stroke: #fb8f44; stroke-width: 3; }
  .green { stroke: #1a7f37; stroke-width: 5; }
  .dead { stroke: #cf222e; stroke-width: 3; stroke-linecap: round; fill: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .title, .name, .strong { fill: #f0f6fc; }
    .back { fill: #0d1117; stroke: #3d444d; }
    .grid { stroke: #3d444d; }
    .link { stroke: #f0f6fc; }
    .tick { stroke: #9198a1; }
    .owns { fill: #2ea043; }
    .waits { fill: #3d444d; }
    .ground { fill: #3d1300; }
    .stripe { stroke: #bd561d; }
    .green { stroke: #2ea043; }
    .dead { stroke: #f85149; }
  }
`

// hatches are for a stopped process: with the lease's colour while that is valid.
const hatches = `<defs>
<pattern id="stopped" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="8" height="8" class="ground"/><path d="M4 0V8" class="stripe"/></pattern>
<pattern id="hanging" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="8" height="8" class="ground"/><path d="M0 0V8" class="stripe"/><path d="M5 0V8" class="green"/></pattern>
</defs>
`

// A picture is a timeline that is being drawn.
type picture struct {
	*timeline
	bytes.Buffer
}

// svg draws the timeline as a picture.
func (t *timeline) svg() []byte {
	p := &picture{timeline: t}
	height := p.bottom() + footer
	p.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="title desc">`, width, height)
	p.add(`<title id="title">%s</title>`, escaped(headline))
	p.add(`<desc id="desc">%s</desc>`, escaped(t.story()))
	p.add(`<style>%s</style>`, style)
	p.WriteString(hatches)
	p.add(`<rect x=".5" y=".5" width="%d" height="%d" rx="8" class="back"/>`, width-1, height-1)
	p.write(24, 30, "title", headline)
	p.write(24, 50, "", "What three real processes did, and when, by the clock that they share. Every bar is what the process itself reported.")
	p.axis()
	for i, s := range t.stories {
		p.row(i, s)
	}
	for _, o := range t.takeovers {
		p.takeover(o)
	}
	p.legend()
	verdict, how, _ := strings.Cut(t.conclusion(), "\n")
	p.write(24, float64(p.bottom()+76), "strong", verdict)
	p.write(24, float64(p.bottom()+93), "", strings.TrimSpace(how))
	p.add(`</svg>`)
	return p.Bytes()
}

const headline = "Three processes, one lease, one owner at a time"

// story is the picture's text alternative.
func (t *timeline) story() string {
	var b strings.Builder
	t.measured(&b)
	measured := strings.ReplaceAll(b.String(), "\n", ". ")
	return strings.Join(strings.Fields(measured+t.conclusion()), " ")
}

func (p *picture) add(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...)
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

// write puts text to the right of x; to the left of the plot's end where it would not
// fit.
func (p *picture) write(x, y float64, class, s string) {
	anchor := ""
	if wide := 6.2 * float64(len(s)); x > plotLeft && x+wide > plotRight+8 {
		x, anchor = plotRight, ` text-anchor="end"`
	}
	p.add(`<text x="%.1f" y="%.1f" class="%s"%s>%s</text>`, x, y, class, anchor, escaped(s))
}

func (p *picture) x(t time.Duration) float64 {
	return plotLeft + (plotRight-plotLeft)*float64(t)/float64(p.end)
}

func (p *picture) y(row int) float64 { return float64(rowsTop + row*rowHeight) }

func (p *picture) bottom() int { return rowsTop + len(p.stories)*rowHeight }

func (p *picture) axis() {
	bottom := float64(p.bottom())
	for s := time.Duration(0); s <= p.end; s += time.Second {
		p.add(`<path d="M%.1f %d V%.1f" class="grid"/>`, p.x(s), rowsTop, bottom)
		p.add(`<text x="%.1f" y="%.1f" text-anchor="middle">%v</text>`, p.x(s), bottom+16, s)
	}
}

func (p *picture) row(i int, s *story) {
	y := p.y(i) + barTop
	p.write(24, y+13, "name", s.name)
	p.write(24, y+28, "", fmt.Sprintf("pid %d", s.pid))
	for _, b := range s.bars(p.end) {
		p.bar(b, y)
	}
	if s.killed {
		p.add(`<path d="m%.1f %.1f 10 10 m0-10 -10 10" class="dead"/>`, p.x(s.left)+4, y+barHeight/2-5)
	}
	for _, m := range s.marks {
		p.add(`<path d="M%.1f %.1f v%d" class="tick"/>`, p.x(m.at), y, barHeight+6)
		p.write(p.x(m.at)+5, y+barHeight+15, "", m.what)
	}
}

func (p *picture) bar(b bar, y float64) {
	x, w := p.x(b.from), p.x(b.to)-p.x(b.from)
	switch class := classes[b.phase]; {
	case class == "":
	case b.phase == waiting:
		p.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="4" class="%s"/>`, x, y+barHeight/2-2, w, class)
	default:
		p.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="2" class="%s"/>`, x, y, w, barHeight, class)
	}
}

var classes = map[phase]string{waiting: "waits", owning: "owns", stoppedOwning: "hangs", stopped: "stops"}

// takeover leads from one owner to the next.
func (p *picture) takeover(t takeover) {
	from, to := p.rowOf(t.of), p.rowOf(t.by)
	top, bottom := p.y(min(from, to))+barTop+barHeight, p.y(max(from, to))+barTop
	p.add(`<path d="M%.1f %.1f V%.1f" class="link"/>`, p.x(t.at), top, bottom)
	p.write(p.x(t.at), p.y(to)+barTop-5, "strong", fmt.Sprintf("%s after %s", short(t.took()), t.after))
}

func (p *picture) rowOf(name string) int {
	for i, s := range p.stories {
		if s.name == name {
			return i
		}
	}
	return 0
}

func (p *picture) legend() {
	x, y := 24.0, float64(p.bottom()+48)
	for _, l := range []struct {
		phase phase
		what  string
	}{{owning, "owns"}, {stoppedOwning, "stopped, still owner"}, {stopped, "stopped"}, {waiting, "standby"}} {
		height := 12.0
		if l.phase == waiting {
			height = 4
		}
		p.add(`<rect x="%.1f" y="%.1f" width="24" height="%.0f" class="%s"/>`, x, y-4-height/2, height, classes[l.phase])
		p.add(`<text x="%.1f" y="%.1f">%s</text>`, x+30, y, escaped(l.what))
		x += 30 + 6.2*float64(len(l.what)) + 24
	}
}
