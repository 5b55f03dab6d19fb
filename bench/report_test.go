package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", 27: "27 ns", 6100: "6.10 µs", 30 * time.Microsecond: "30 µs", 999499: "999 µs", 999500: "1.00 ms", 99540 * time.Microsecond: "99.5 ms",
		99960 * time.Microsecond: "100 ms", 999600 * time.Microsecond: "1.00 s", 3 * time.Second: "3 s", -2450 * time.Microsecond: "−2.45 ms",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is written as %q, want %q", d, got, want)
		}
	}
	if got := signed(750 * time.Millisecond); got != "+750 ms" {
		t.Errorf("a slack is written as %q", got)
	}
}

func TestTimes(t *testing.T) {
	for ratio, want := range map[float64]string{0.0213: "0.021×", 1: "1×", 9.94: "9.9×", 12.4: "12×", 864: "860×", 1749: "1,700×", 1234567: "1,200,000×"} {
		if got := times(ratio); got != want {
			t.Errorf("%v is written as %q, want %q", ratio, got, want)
		}
	}
}

func TestSeries(t *testing.T) {
	r := newResults()
	r.add(jobKilled, peerOwner, 5, 1, 9)
	r.add(jobKilled, peerOwner, 3)
	r.add(jobKilled, peerEtcd, 50)
	s := r.of(jobKilled, peerOwner)
	if s.min() != 1 || s.median() != 5 || s.max() != 9 {
		t.Errorf("least %d, median %d, most %d", s.min(), s.median(), s.max())
	}
	if got := r.of(jobKilled, peerEtcd).ratio(s); got != 10 {
		t.Errorf("the ratio is %v", got)
	}
	if got := s.longer(3); got != 2 {
		t.Errorf("%d are longer than 3", got)
	}
}

// made are results in which every cell of every table is another.
func made() *page {
	r := newResults()
	d := 100 * time.Microsecond
	next := func() time.Duration { d += 100 * time.Microsecond; return d }
	r.add(jobFsync, "disk", next())
	for _, j := range []job{jobRounds, jobAgain, jobKilled, jobHandover} {
		for _, p := range peers {
			r.add(j, p, next())
		}
	}
	r.add(jobKept, peerEtcd, next())
	r.add(jobRenewal, peerOwner, next())
	for _, v := range views {
		r.add(jobHang, v, next(), -next())
		r.add(jobHangBoth, v, 0, 0)
		r.add(jobStop, v, next())
		r.add(jobStopWrong, v, 1, 0)
		r.add(jobStopBoth, v, next())
		r.add(jobBehind, v, next(), never)
		r.add(jobBehindBoth, v, next(), never)
	}
	r.add(jobHang, viewContext+variantDeaf, -never)
	r.add(jobHangBoth, viewContext+variantDeaf, never)
	p := newPage(r, options{trials: 2, parallel: 3}, time.Minute, "x.svg")
	p.OnUnix = true
	return p
}

func TestTables(t *testing.T) {
	p := made()
	for _, tc := range []struct{ what, table, want string }{
		{"speed", p.Speed(), "| acquire and release (1) | 300 µs | 400 µs, 1.3× | 500 µs, 1.7× | 600 µs, 2× | 700 µs, 2.3× |"},
		{"what no other peer does", p.Speed(), "| the same, on a session that is kept | – | 2.30 ms, 7.7× | – | – | – |"},
		{"what was not measured", p.Speed(), "| one renewal (3) | 2.40 ms | – (4) | – (4) | – (4) | – (4) |"},
		{"hang", p.Hang(), "| owner `IsOwner` | +2.50 ms | −2.60 ms | 0 | 0 |"},
		{"no signal", p.Hang(), "| client-go `OnStartedLeading`'s context (a store that ignores contexts) | no signal | no signal | no end in 6 s | no end in 6 s |"},
		{"stop", p.Stop(), "| owner `IsOwner` | 1 of 2 | 2.70 ms | 2.70 ms | 2.80 ms | 2.80 ms |"},
		{"never", p.Behind(), "| owner `IsOwner` | the record removed | none in 6 s | none in 6 s | no end in 6 s | no end in 6 s |"},
		{"all", p.All(), "| removed or overwritten: until the signal | owner `IsOwner` | 2 | 2.90 ms | not while it was watched | not while it was watched |"},
	} {
		if !strings.Contains(tc.table, tc.want+"\n") {
			t.Errorf("%s: no row %s in\n%s", tc.what, tc.want, tc.table)
		}
	}
}

// Every row of every table has as many cells as its head, and every note that a
// table refers to is there.
func TestPage(t *testing.T) {
	text, err := made().markdown()
	must(t, err)
	cells := 0
	for _, line := range strings.Split(string(text), "\n") {
		n := strings.Count(line, "|")
		if cells != 0 && n != 0 && n != cells {
			t.Errorf("a row has %d bars, its head has %d: %s", n, cells, line)
		}
		cells = n
	}
	for _, note := range regexp.MustCompile(`\((\d)\)`).FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(string(text), "\n"+note[1]+". ") {
			t.Errorf("there is no note %s", note[1])
		}
	}
	for _, odd := range []string{"<no value>", "%!", "9223372036854775807", "2562047h"} {
		if bytes.Contains(text, []byte(odd)) {
			t.Errorf("the page has %q", odd)
		}
	}
}

func TestPageElsewhere(t *testing.T) {
	p := made()
	p.OnUnix = false
	text, err := p.markdown()
	must(t, err)
	if s := string(text); !strings.Contains(s, "was not measured") || strings.Contains(s, "wrong first answers") {
		t.Error("the page has a table of stops, which this system does not know")
	}
}

func TestPicture(t *testing.T) {
	p := made()
	picture := p.svg()
	for d := xml.NewDecoder(bytes.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var shown []time.Duration
	for _, g := range p.groups() {
		for _, b := range g.bars {
			shown = append(shown, b.took)
		}
	}
	bars := regexp.MustCompile(`<rect x="\d+" y="\d+" width="([\d.]+)"`).FindAllSubmatch(picture, -1)
	if len(bars) != len(shown) {
		t.Fatalf("%d bars for %d medians", len(bars), len(shown))
	}
	// From one power of ten to the next it is as far everywhere.
	d := newPicture(p.groups())
	if a, b := d.x(time.Millisecond)-d.x(100*time.Microsecond), d.x(10*time.Millisecond)-d.x(time.Millisecond); a < 1 || a-b > 1e-6 || b-a > 1e-6 {
		t.Errorf("the axis is not logarithmic: %v and %v", a, b)
	}
	for i := range bars {
		wide, err := strconv.ParseFloat(string(bars[i][1]), 64)
		must(t, err)
		if want := d.x(shown[i]) - plotLeft; wide < want-.1 || wide > want+.1 {
			t.Errorf("the bar of %v is %v wide, want %v", shown[i], wide, want)
		}
	}
}
