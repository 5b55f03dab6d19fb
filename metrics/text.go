package metrics

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A family is a metric with all of its series.
type family struct {
	name, help string
	typ        Type
	series     map[string]Sample // by their labels as they are written
}

// gather collects from all sources, and sorts the metrics by name. It returns the first
// error: the rest could be a consequence.
func gather(sources []Source) ([]*family, error) {
	var first error
	families := map[string]*family{}
	for _, source := range sources {
		source.Collect(func(s Sample) {
			if first == nil {
				first = put(families, s)
			}
		})
	}
	if first != nil {
		return nil, fmt.Errorf("metrics: %w", first)
	}
	return slices.SortedFunc(maps.Values(families), func(a, b *family) int { return cmp.Compare(a.name, b.name) }), nil
}

// put adds a sample to its family.
func put(families map[string]*family, s Sample) error {
	if err := s.check(); err != nil {
		return fmt.Errorf("sample %q: %w", s.Name, err)
	}
	f := families[s.Name]
	if f == nil {
		f = &family{s.Name, s.Help, s.Type, map[string]Sample{}}
		families[s.Name] = f
	}
	labels := encodeLabels(s.Labels)
	if f.typ != s.Type {
		return fmt.Errorf("%s is a %s and a %s", s.Name, f.typ, s.Type)
	}
	if _, twice := f.series[labels]; twice {
		return fmt.Errorf("%s%s comes from two sources, or from one twice", s.Name, labels)
	}
	f.series[labels] = s
	return nil
}

// Names that begin with an underscore, and colons, are reserved.
var (
	validName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]*$`)

	// What the types append. A name that ends so could be another metric's.
	suffixes = regexp.MustCompile(`_(total|created|sum|count|bucket|gsum|gcount|info)$`)
)

// check says what is wrong with a sample.
func (s *Sample) check() error {
	if !validName.MatchString(s.Name) {
		return errors.New("the name must begin with a letter, and have only letters, digits and underscores")
	}
	if suffix := suffixes.FindString(s.Name); suffix != "" {
		return fmt.Errorf("the name must not end in %s, which belongs to a type", suffix)
	}
	switch s.Type {
	case Gauge:
	case Counter, Summary:
		if !(s.Value >= 0) {
			return fmt.Errorf("the value of a %s cannot be %v", s.Type, s.Value)
		}
	default:
		return fmt.Errorf("unknown type %q", s.Type)
	}
	for name := range s.Labels {
		if !validName.MatchString(name) || name == "quantile" {
			return fmt.Errorf("the label %q is not valid", name)
		}
	}
	return nil
}

// A format is one way to write the metrics.
type format struct {
	contentType string
	encode      func([]*family) []byte
}

var (
	openMetrics = format{"application/openmetrics-text; version=1.0.0; charset=utf-8", encodeOpenMetrics}
	plainText   = format{"text/plain; version=0.0.4; charset=utf-8", encodePlainText}
)

func encodeOpenMetrics(families []*family) []byte {
	var b bytes.Buffer
	for _, f := range families {
		fmt.Fprintf(&b, "# TYPE %s %s\n", f.name, f.typ)
		if unit := f.unit(); unit != "" {
			fmt.Fprintf(&b, "# UNIT %s %s\n", f.name, unit)
		}
		if f.help != "" {
			fmt.Fprintf(&b, "# HELP %s %s\n", f.name, escaped.Replace(valid(f.help)))
		}
		f.encodeSeries(&b)
	}
	b.WriteString("# EOF\n")
	return b.Bytes()
}

// encodePlainText differs in what it says of a metric: it knows no unit, names a counter
// with its suffix, and leaves quotes in the help as they are.
func encodePlainText(families []*family) []byte {
	var b bytes.Buffer
	for _, f := range families {
		name := f.name
		if f.typ == Counter {
			name += "_total"
		}
		if f.help != "" {
			fmt.Fprintf(&b, "# HELP %s %s\n", name, escapedHelp.Replace(valid(f.help)))
		}
		fmt.Fprintf(&b, "# TYPE %s %s\n", name, f.typ)
		f.encodeSeries(&b)
	}
	return b.Bytes()
}

// unit is the unit in the name, "" if there is none.
func (f *family) unit() string {
	for _, unit := range []string{"seconds", "bytes"} {
		if strings.HasSuffix(f.name, "_"+unit) {
			return unit
		}
	}
	return ""
}

// encodeSeries writes the series, sorted by their labels.
func (f *family) encodeSeries(b *bytes.Buffer) {
	for _, labels := range slices.Sorted(maps.Keys(f.series)) {
		s := f.series[labels]
		switch f.typ {
		case Gauge:
			fmt.Fprintf(b, "%s%s %s\n", f.name, labels, encodeValue(s.Value))
		case Counter:
			fmt.Fprintf(b, "%s_total%s %s\n", f.name, labels, encodeValue(s.Value))
		case Summary:
			fmt.Fprintf(b, "%s_count%s %d\n", f.name, labels, s.Count)
			fmt.Fprintf(b, "%s_sum%s %s\n", f.name, labels, encodeValue(s.Value))
		}
	}
}

// encodeLabels writes the labels sorted by name, so that equal ones are written equally. A
// label without a value is the same as none.
func encodeLabels(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if value := labels[name]; value != "" {
			pairs = append(pairs, name+`="`+escaped.Replace(valid(value))+`"`)
		}
	}
	if pairs == nil {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

var (
	escaped     = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	escapedHelp = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// valid makes a string valid UTF-8: a lease's name may be a path, which can be anything.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// encodeValue writes whole numbers without a point or an exponent as long as a float64
// holds every one of them.
func encodeValue(v float64) string {
	const exact = 1 << 53
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return fmt.Sprintf("%+f", v) // +Inf, -Inf
	case v == math.Trunc(v) && math.Abs(v) <= exact:
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
