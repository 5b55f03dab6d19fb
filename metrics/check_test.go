package metrics_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// A checker reads OpenMetrics text 1.0.0, and refuses what the specification forbids,
// including what it only advises against.
type checker struct {
	families map[string]string // the type of each
	series   map[string]float64

	// Of the family that is being read.
	name, typ string
	seen      []string // its metadata
	labels    string   // of the metric that is being read
	metrics   map[string]bool
}

var (
	metaLine   = regexp.MustCompile(`^# (TYPE|UNIT|HELP) ([a-zA-Z][a-zA-Z0-9_]*) ((?:[^"\\]|\\[\\"n])+)$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9_]*)(\{.*\})? (\S+)$`)
	oneLabel   = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\"n])+)"(?:,|$)`)
	number     = regexp.MustCompile(`^(?:-?[0-9]+|-?[0-9]+\.[0-9]+(?:e[+-][0-9]+)?|-?[0-9]+e[+-][0-9]+|[+-]Inf|NaN)$`)
)

// suffixesOf are the names that a family of a type takes.
var suffixesOf = map[string][]string{
	"gauge":   {""},
	"counter": {"_total", "_created"},
	"summary": {"", "_count", "_sum", "_created"},
}

// parse returns the series with their values.
func parse(text string) (map[string]float64, error) {
	body, ended := strings.CutSuffix(text, "# EOF\n")
	if !ended || !utf8.ValidString(text) {
		return nil, fmt.Errorf("it does not end in EOF, or is not UTF-8")
	}
	c := checker{families: map[string]string{}, series: map[string]float64{}}
	for line := range strings.Lines(body) {
		whole, ok := strings.CutSuffix(line, "\n")
		if !ok || strings.HasSuffix(whole, "\r") {
			return nil, fmt.Errorf("%q does not end in a line feed", line)
		}
		var err error
		if strings.HasPrefix(whole, "#") {
			err = c.meta(whole)
		} else {
			err = c.sample(whole)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", whole, err)
		}
	}
	return c.series, c.clashes()
}

func (c *checker) meta(line string) error {
	m := metaLine.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("no metadata")
	}
	kind, name, value := m[1], m[2], m[3]
	if name != c.name {
		if _, ok := c.families[name]; ok || kind != "TYPE" {
			return fmt.Errorf("a family is not in one piece, or does not begin with its type")
		}
		if suffixesOf[value] == nil {
			return fmt.Errorf("unknown type")
		}
		c.families[name] = value
		c.name, c.typ, c.seen, c.labels, c.metrics = name, value, nil, "none", map[string]bool{}
	}
	order := []string{"TYPE", "UNIT", "HELP"}
	c.seen = append(c.seen, kind)
	if len(c.metrics) > 0 || !slices.IsSortedFunc(c.seen, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) }) ||
		len(slices.Compact(slices.Clone(c.seen))) != len(c.seen) {
		return fmt.Errorf("metadata twice, after a sample, or not in the order of TYPE, UNIT, HELP")
	}
	if kind == "UNIT" && !strings.HasSuffix(name, "_"+value) {
		return fmt.Errorf("the name does not end in the unit")
	}
	return nil
}

func (c *checker) sample(line string) error {
	m := sampleLine.FindStringSubmatch(line)
	if m == nil || !number.MatchString(m[3]) {
		return fmt.Errorf("no sample")
	}
	name, labels := m[1], m[2]
	suffix, ok := strings.CutPrefix(name, c.name)
	if !ok || c.name == "" || !slices.Contains(suffixesOf[c.typ], suffix) {
		return fmt.Errorf("not a sample of the %s %s", c.typ, c.name)
	}
	if err := checkLabels(labels); err != nil {
		return err
	}
	if labels != c.labels && c.metrics[labels] {
		return fmt.Errorf("the metrics are interleaved")
	}
	c.labels, c.metrics[labels] = labels, true
	if _, twice := c.series[name+labels]; twice {
		return fmt.Errorf("the series comes twice")
	}
	v, err := strconv.ParseFloat(m[3], 64)
	if err != nil || c.typ != "gauge" && !(v >= 0) || suffix == "_count" && strings.Trim(m[3], "0123456789") != "" {
		return fmt.Errorf("a %s cannot have this value: %v", c.typ, err)
	}
	c.series[name+labels] = v
	return nil
}

// checkLabels wants them sorted, as this package writes them.
func checkLabels(labels string) error {
	if labels == "" {
		return nil
	}
	rest := strings.TrimSuffix(strings.TrimPrefix(labels, "{"), "}")
	last := ""
	for rest != "" {
		m := oneLabel.FindStringSubmatch(rest)
		if m == nil {
			return fmt.Errorf("no label: %q", rest)
		}
		if m[1] <= last {
			return fmt.Errorf("the label %q is not in order, or comes twice", m[1])
		}
		last, rest = m[1], rest[len(m[0]):]
	}
	if last == "" || strings.HasSuffix(labels, ",}") {
		return fmt.Errorf("no labels in the braces, or a comma after the last")
	}
	return nil
}

// clashes refuses two families that could have a sample of the same name.
func (c *checker) clashes() error {
	taken := map[string]string{}
	for name, typ := range c.families {
		for _, suffix := range suffixesOf[typ] {
			if other, ok := taken[name+suffix]; ok {
				return fmt.Errorf("%s and %s can both have a sample %s", name, other, name+suffix)
			}
			taken[name+suffix] = name
		}
	}
	return nil
}

// What the checker lets pass proves something only if it refuses what is wrong.
func TestChecker(t *testing.T) {
	good := "# TYPE a_seconds summary\n# UNIT a_seconds seconds\n# HELP a_seconds Some \\\"help\\\".\n" +
		"a_seconds_count{x=\"1\"} 2\na_seconds_sum{x=\"1\"} 0.5\n# TYPE b counter\nb_total 1e+20\n# EOF\n"
	if series, err := parse(good); err != nil || len(series) != 3 || series[`a_seconds_sum{x="1"}`] != 0.5 {
		t.Errorf("%v, %v", series, err)
	}
	for name, bad := range map[string]string{
		"no EOF":                  "# TYPE a gauge\na 1\n",
		"EOF without a line feed": "# TYPE a gauge\na 1\n# EOF",
		"text after EOF":          "# EOF\n# EOF\n",
		"not UTF-8":               "# TYPE a gauge\na{x=\"\xff\"} 1\n# EOF\n",
		"carriage return":         "# TYPE a gauge\r\na 1\r\n# EOF\n",
		"empty line":              "# TYPE a gauge\n\na 1\n# EOF\n",
		"comment":                 "# hello\n# EOF\n",
		"no type":                 "a 1\n# EOF\n",
		"unknown type":            "# TYPE a guage\na 1\n# EOF\n",
		"type twice":              "# TYPE a gauge\n# TYPE a gauge\na 1\n# EOF\n",
		"help before type":        "# HELP a Help.\n# TYPE a gauge\na 1\n# EOF\n",
		"help before unit":        "# TYPE a_seconds gauge\n# HELP a_seconds Help.\n# UNIT a_seconds seconds\n# EOF\n",
		"help after a sample":     "# TYPE a gauge\na 1\n# HELP a Help.\n# EOF\n",
		"quote in help":           "# TYPE a gauge\n# HELP a \"Help\".\na 1\n# EOF\n",
		"unit not in the name":    "# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n",
		"family in two pieces":    "# TYPE a gauge\na{x=\"1\"} 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\na{x=\"2\"} 1\n# EOF\n",
		"sample of another":       "# TYPE a gauge\na 1\nb 1\n# EOF\n",
		"counter without _total":  "# TYPE a counter\na 1\n# EOF\n",
		"gauge with _total":       "# TYPE a gauge\na_total 1\n# EOF\n",
		"series twice":            "# TYPE a gauge\na{x=\"1\"} 1\na{x=\"1\"} 2\n# EOF\n",
		"interleaved":             "# TYPE a summary\na_sum{x=\"1\"} 1\na_sum{x=\"2\"} 1\na_count{x=\"1\"} 1\n# EOF\n",
		"names that clash":        "# TYPE a counter\na_total 1\n# TYPE a_created gauge\na_created 1\n# EOF\n",
		"quote in a label":        "# TYPE a gauge\na{x=\"\"\"} 1\n# EOF\n",
		"open escape":             "# TYPE a gauge\na{x=\"\\\"} 1\n# EOF\n",
		"undefined escape":        "# TYPE a gauge\na{x=\"\\t\"} 1\n# EOF\n",
		"label twice":             "# TYPE a gauge\na{x=\"1\",x=\"2\"} 1\n# EOF\n",
		"empty braces":            "# TYPE a gauge\na{} 1\n# EOF\n",
		"comma at the end":        "# TYPE a gauge\na{x=\"1\",} 1\n# EOF\n",
		"two spaces":              "# TYPE a gauge\na  1\n# EOF\n",
		"no number":               "# TYPE a gauge\na one\n# EOF\n",
		"negative counter":        "# TYPE a counter\na_total -1\n# EOF\n",
		"NaN of a counter":        "# TYPE a counter\na_total NaN\n# EOF\n",
		"broken count":            "# TYPE a summary\na_count 1.5\n# EOF\n",
	} {
		if series, err := parse(bad); err == nil {
			t.Errorf("%s: the checker reads %v", name, series)
		}
	}
}
