package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed comparison.md.tmpl
var pageText string

// A page is the output: docs/comparison.md.
type page struct {
	*results
	Trials, Loops, Parallel int
	Took                    time.Duration
	Date, Picture           string
	OnUnix                  bool

	// The configuration of all peers.
	TTL, RenewDeadline, RetryPeriod, RequestTimeout, LockInterval, Patience, AskEvery, RenewEvery, RoundEvery time.Duration
	Settle, ShortPhase, LongPhase, Busy                                                                       time.Duration
}

func newPage(r *results, o options, took time.Duration, picture string) *page {
	return &page{
		results: r, Trials: o.trials, Loops: o.loops(), Parallel: o.parallel,
		Took: took.Round(time.Second), Date: time.Now().Format("2 January 2006"), Picture: picture, OnUnix: onUnix,
		TTL: ttl, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, RequestTimeout: requestTimeout, LockInterval: lockInterval,
		Patience: patience, AskEvery: askEvery, RenewEvery: renewEvery, RoundEvery: roundEvery,
		Settle: settle, ShortPhase: settle + shortPhase, LongPhase: settle + longPhase, Busy: busy,
	}
}

// pictureBeside is the picture's path, from the page's.
func pictureBeside(out string) string { return strings.TrimSuffix(out, ".md") + ".svg" }

func (p *page) markdown() ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{"short": short, "version": version}).Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("the page's template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("fill in the page: %w", err)
	}
	return b.Bytes(), nil
}

// What the template asks for.

func (p *page) Machine() string {
	return fmt.Sprintf("%d cores of %s, %s, %s", runtime.NumCPU(), processor(), runtime.GOOS, runtime.Version())
}

func (p *page) Fsync() string { return short(p.of(jobFsync, "disk").median()) }

// Speed is the table of what takes how long, with ratios to owner.
func (p *page) Speed() string {
	rows := [][]string{append([]string{"median"}, peers...)}
	for _, j := range []struct {
		job  job
		name string
		note string // for peers that do not do it
	}{
		{jobRounds, "acquire and release (1)", ""},
		{jobAgain, "the same, at once again (2)", ""},
		{jobKept, "the same, on a session that is kept", "–"},
		{jobRenewal, "one renewal (3)", "– (4)"},
		{jobKilled, "killed: until the next owns", ""},
		{jobHandover, "released: until the next owns", ""},
	} {
		row := []string{j.name}
		for _, who := range peers {
			cell := p.cell(j.job, who)
			if cell == "" {
				cell = j.note
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// cell is a median, and its ratio to owner's; "" where nothing was measured.
func (p *page) cell(j job, who string) string {
	s := p.of(j, who)
	if len(s) == 0 {
		return ""
	}
	base := p.of(j, peerOwner)
	if j == jobKept {
		base = p.of(jobRounds, peerOwner) // which keeps nothing
	}
	if who == peerOwner || len(base) == 0 {
		return short(s.median())
	}
	return short(s.median()) + ", " + times(s.ratio(base))
}

// Hang is the table of the store that hangs.
func (p *page) Hang() string {
	rows := [][]string{{"who says so", "slack: median", "slack: worst", "two at once: median", "two at once: worst"}}
	for _, v := range allViews() {
		if s := p.of(jobHang, v); len(s) > 0 {
			rows = append(rows, []string{v, slackText(s.median()), slackText(s.min()), p.both(jobHangBoth, v), p.worst(jobHangBoth, v)})
		}
	}
	return table(rows)
}

// allViews are the views in all their variants.
func allViews() (all []string) {
	for _, variant := range []string{"", variantRelease, variantDeaf} {
		for _, v := range views {
			all = append(all, v+variant)
		}
	}
	return all
}

// Stop is the table of the owner that was stopped and resumed.
func (p *page) Stop() string {
	rows := [][]string{{"who says so", "wrong first answers", "the first no: median", "worst", "two at once: median", "two at once: worst"}}
	for _, v := range views {
		if s := p.of(jobStop, v); len(s) > 0 {
			wrong := p.of(jobStopWrong, v)
			rows = append(rows, []string{v, fmt.Sprintf("%d of %d", wrong.longer(0), len(wrong)), within(s.median()), within(s.max()), p.both(jobStopBoth, v), p.worst(jobStopBoth, v)})
		}
	}
	return table(rows)
}

// Behind is the table of the record that is taken away.
func (p *page) Behind() string {
	rows := [][]string{{"who says so", "what was done", "the first no: median", "worst", "two at once: median", "two at once: worst"}}
	done := map[string]string{
		viewIsOwner: "the record removed", viewLost: "the record removed", viewLocked: "the lock file removed (6)",
		viewSession: "the leader's key deleted (5)", viewObserve: "the leader's key deleted (5)",
		viewContext: "another holder written into the record", viewIsLeader: "another holder written into the record",
	}
	for _, v := range views {
		if s := p.of(jobBehind, v); len(s) > 0 {
			rows = append(rows, []string{v, done[v], within(s.median()), within(s.max()), p.both(jobBehindBoth, v), p.worst(jobBehindBoth, v)})
		}
	}
	return table(rows)
}

func (p *page) both(j job, who string) string  { return lasting(p.of(j, who).median()) }
func (p *page) worst(j job, who string) string { return lasting(p.of(j, who).max()) }

func slackText(d time.Duration) string {
	if d == -never {
		return "no signal"
	}
	return signed(d)
}

func within(d time.Duration) string {
	if d == never {
		return fmt.Sprintf("none in %s", short(patience))
	}
	return short(d)
}

func lasting(d time.Duration) string {
	if d == never {
		return "no end in " + short(patience)
	}
	return short(d)
}

// All is the table of everything that was measured.
func (p *page) All() string {
	rows := [][]string{{"what", "who", "n", "least", "median", "most"}}
	for _, j := range []job{
		jobFsync, jobRounds, jobAgain, jobKept, jobRenewal, jobKilled, jobHandover, jobHang, jobHangBoth, jobStop, jobStopBoth, jobBehind, jobBehindBoth,
	} {
		for _, who := range slices.Concat([]string{"disk"}, peers, allViews()) {
			if s := p.of(j, who); len(s) > 0 {
				rows = append(rows, []string{string(j), who, fmt.Sprint(len(s)), plain(s.min()), plain(s.median()), plain(s.max())})
			}
		}
	}
	return table(rows)
}

func plain(d time.Duration) string {
	switch d {
	case never, -never:
		return "not while it was watched"
	}
	return short(d)
}
