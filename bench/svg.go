package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"time"
)

// Where things are in the picture, in pixels.
const (
	width     = 760
	plotLeft  = 190
	plotRight = 660
	plotTop   = 64
	barHeight = 14
	barStep   = 18
	groupGap  = 34
	footer    = 58
)

// style has two sets of colours: a page is read in light and in dark.
const style = `
  text { font: 11.5px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #59636e; }
  .title { font-size: 16px; font-weight: 600; fill: #1f2328; }
  .strong { font-weight: 600; fill: #1f2328; }
  .back { fill: #ffffff; stroke: #d1d9e0; }
  .grid { stroke: #d1d9e0; stroke-dasharray: 2 4; }
  .own { fill: #1a7f37; }
  .other { fill: #8c959f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .title, .strong { fill: #f0f6fc; }
    .back { fill: #0d1117; stroke: #3d444d; }
    .grid { stroke: #3d444d; }
    .own { fill: #2ea043; }
    .other { fill: #656c76; }
  }
`

const headline = "How long it takes, on a logarithmic scale"

// A group of bars is one job.
type group struct {
	what string
	bars []bar
}

type bar struct {
	who  string
	took time.Duration
}

// groups are what the picture shows of what was measured.
func (p *page) groups() (all []group) {
	for _, j := range []struct {
		job  job
		what string
	}{
		{jobKilled, "The owner is killed: until the next one owns"},
		{jobHandover, "The owner releases the lease: until the next one owns"},
		{jobRounds, "Acquire and release, with nobody else"},
		{jobRenewal, "One renewal"},
	} {
		g := group{what: j.what}
		for _, who := range peers {
			if s := p.of(j.job, who); len(s) > 0 {
				g.bars = append(g.bars, bar{strings.ReplaceAll(who, "`", ""), s.median()})
			}
		}
		if len(g.bars) > 0 {
			all = append(all, g)
		}
	}
	return all
}

// A picture is being drawn.
type picture struct {
	bytes.Buffer
	least, most float64 // the axis' ends, as powers of ten of a nanosecond
}

// svg draws the medians.
func (p *page) svg() []byte {
	groups := p.groups()
	d := newPicture(groups)
	bottom := plotTop
	for _, g := range groups {
		bottom += groupGap + barStep*len(g.bars)
	}
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="title desc">`, width, bottom+footer)
	d.add(`<title id="title">%s</title>`, escaped(headline))
	d.add(`<desc id="desc">%s</desc>`, escaped(inWords(groups)))
	d.add(`<style>%s</style>`, style)
	d.add(`<rect x=".5" y=".5" width="%d" height="%d" rx="8" class="back"/>`, width-1, bottom+footer-1)
	d.text(24, 30, "title", "", headline)
	d.text(24, 50, "", "", fmt.Sprintf("Medians of one run on one machine; shorter is better. The TTL is %s where there is one.", short(ttl)))
	d.axis(bottom)
	y := plotTop
	for _, g := range groups {
		y += groupGap
		d.text(24, float64(y)-9, "strong", "", g.what)
		for _, b := range g.bars {
			d.bar(b, y)
			y += barStep
		}
	}
	d.text(24, float64(bottom+44), "", "", "etcd: a single member on this machine. client-go: a lock in memory in place of an API server. How it was measured: see the page.")
	d.add(`</svg>`)
	return d.Bytes()
}

func newPicture(groups []group) *picture {
	d := &picture{least: math.Inf(1), most: math.Inf(-1)}
	for _, g := range groups {
		for _, b := range g.bars {
			d.least = min(d.least, math.Floor(math.Log10(float64(b.took))))
			d.most = max(d.most, math.Ceil(math.Log10(float64(b.took))))
		}
	}
	return d
}

// inWords is the picture's text alternative.
func inWords(groups []group) string {
	var b strings.Builder
	for _, g := range groups {
		b.WriteString(g.what + ": ")
		for i, bar := range g.bars {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(bar.who + " " + short(bar.took))
		}
		b.WriteString(". ")
	}
	return strings.TrimSpace(b.String())
}

func (d *picture) add(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

func (d *picture) text(x, y float64, class, anchor, s string) {
	attributes := ""
	if class != "" {
		attributes += fmt.Sprintf(` class="%s"`, class)
	}
	if anchor != "" {
		attributes += fmt.Sprintf(` text-anchor="%s"`, anchor)
	}
	d.add(`<text x="%.1f" y="%.1f"%s>%s</text>`, x, y, attributes, escaped(s))
}

func (d *picture) x(took time.Duration) float64 {
	return plotLeft + (plotRight-plotLeft)*(math.Log10(float64(took))-d.least)/(d.most-d.least)
}

// axis has a line for every power of ten.
func (d *picture) axis(bottom int) {
	for power := d.least; power <= d.most; power++ {
		took := time.Duration(math.Round(math.Pow(10, power)))
		d.add(`<path d="M%.1f %d V%d" class="grid"/>`, d.x(took), plotTop, bottom)
		d.text(d.x(took), float64(bottom+16), "", "middle", short(took))
	}
}

func (d *picture) bar(b bar, y int) {
	class := "other"
	if b.who == peerOwner {
		class = "own"
	}
	d.text(plotLeft-8, float64(y)+11, "", "end", b.who)
	d.add(`<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" class="%s"/>`, plotLeft, y, max(1, d.x(b.took)-plotLeft), barHeight, class)
	d.text(d.x(b.took)+6, float64(y)+11, "", "", short(b.took))
}
