package metrics_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ownerlease/owner/metrics"
)

// A source exposes these samples.
type source []metrics.Sample

func (s source) Collect(add func(metrics.Sample)) {
	for _, sample := range s {
		add(sample)
	}
}

func one(name string, typ metrics.Type, labels map[string]string, value float64) source {
	return source{{Name: name, Type: typ, Help: "What it is.", Labels: labels, Value: value, Count: 1}}
}

// request asks for the metrics as a client does that sends these headers.
func request(method, accept string, sources ...metrics.Source) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/metrics", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	metrics.Handler(sources...).ServeHTTP(w, r)
	return w
}

// scrape returns the series of a valid answer.
func scrape(t testing.TB, sources ...metrics.Source) map[string]float64 {
	t.Helper()
	w := request(http.MethodGet, "", sources...)
	series, err := parse(w.Body.String())
	if w.Code != http.StatusOK || err != nil {
		t.Fatalf("%d, %v:\n%s", w.Code, err, w.Body)
	}
	return series
}

var mixed = []metrics.Source{
	source{
		{Name: "x_wait_seconds", Type: metrics.Summary, Help: "How long \"calls\" wait.\nBy path: \\.", Labels: map[string]string{"to": "b"}, Value: 1.5, Count: 3},
		{Name: "x_requests", Type: metrics.Counter, Help: "Requests.", Labels: map[string]string{"outcome": "ok", "lease": "gpu"}, Value: 7},
	},
	source{},
	source{
		{Name: "x_requests", Type: metrics.Counter, Help: "Another help.", Labels: map[string]string{"outcome": "lost", "lease": "gpu"}},
		{Name: "x_queue_bytes", Type: metrics.Gauge, Value: -0.25},
		{Name: "x_wait_seconds", Type: metrics.Summary, Labels: map[string]string{"to": "a", "empty": ""}},
	},
}

func TestOpenMetrics(t *testing.T) {
	want := `# TYPE x_queue_bytes gauge
# UNIT x_queue_bytes bytes
x_queue_bytes -0.25
# TYPE x_requests counter
# HELP x_requests Requests.
x_requests_total{lease="gpu",outcome="lost"} 0
x_requests_total{lease="gpu",outcome="ok"} 7
# TYPE x_wait_seconds summary
# UNIT x_wait_seconds seconds
# HELP x_wait_seconds How long \"calls\" wait.\nBy path: \\.
x_wait_seconds_count{to="a"} 0
x_wait_seconds_sum{to="a"} 0
x_wait_seconds_count{to="b"} 3
x_wait_seconds_sum{to="b"} 1.5
# EOF
`
	for range 20 { // whatever the order of the maps
		w := request(http.MethodGet, "", mixed...)
		if got := w.Body.String(); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
		if got := w.Header().Get("Content-Type"); got != openMetrics {
			t.Error(got)
		}
	}
	scrape(t, mixed...)
}

func TestPlainText(t *testing.T) {
	want := `# TYPE x_queue_bytes gauge
x_queue_bytes -0.25
# HELP x_requests_total Requests.
# TYPE x_requests_total counter
x_requests_total{lease="gpu",outcome="lost"} 0
x_requests_total{lease="gpu",outcome="ok"} 7
# HELP x_wait_seconds How long "calls" wait.\nBy path: \\.
# TYPE x_wait_seconds summary
x_wait_seconds_count{to="a"} 0
x_wait_seconds_sum{to="a"} 0
x_wait_seconds_count{to="b"} 3
x_wait_seconds_sum{to="b"} 1.5
`
	w := request(http.MethodGet, "text/plain", mixed...)
	if got := w.Body.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := w.Header().Get("Content-Type"); got != plainText {
		t.Error(got)
	}
}

// No sources are an empty set of metrics, which is valid.
func TestNothing(t *testing.T) {
	if got := request(http.MethodGet, "").Body.String(); got != "# EOF\n" {
		t.Errorf("%q", got)
	}
}

func TestValues(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", -3: "-3", 0.001: "0.001", 1e-7: "1e-07", 1893553445678: "1893553445678",
		1 << 53: "9007199254740992", 1 << 60: "1.152921504606847e+18", 1e300: "1e+300",
		math.Inf(1): "+Inf", math.Inf(-1): "-Inf",
	} {
		got := request(http.MethodGet, "", one("x", metrics.Gauge, nil, v)).Body.String()
		if !strings.Contains(got, "\nx "+want+"\n") {
			t.Errorf("%v: %s", v, got)
		}
		if series := scrape(t, one("x", metrics.Gauge, nil, v)); series["x"] != v {
			t.Errorf("%v is read as %v", v, series["x"])
		}
	}
	if got := scrape(t, one("x", metrics.Gauge, nil, math.NaN()))["x"]; !math.IsNaN(got) {
		t.Error(got)
	}
}

func TestEscaping(t *testing.T) {
	for value, want := range map[string]string{
		`C:\leases\gpu`:      `C:\\leases\\gpu`,
		`a "b" c`:            `a \"b\" c`,
		"two\nlines":         `two\nlines`,
		`\n`:                 `\\n`,
		`x"} 1` + "\n# EOF":  `x\"} 1\n# EOF`,
		"größe, {a}=b\t\x00": "größe, {a}=b\t\x00",
		"bad \xff\xfe":       "bad \uFFFD",
	} {
		series := scrape(t, one("x", metrics.Gauge, map[string]string{"path": value}, 1))
		if len(series) != 1 || series[`x{path="`+want+`"}`] != 1 {
			t.Errorf("%q: %v", value, series)
		}
	}
	help := source{{Name: "x", Type: metrics.Gauge, Help: "a\n# EOF \"b\" \\ \xff"}}
	if got := request(http.MethodGet, "", help).Body.String(); !strings.Contains(got, `# HELP x a\n# EOF \"b\" \\ `+"\uFFFD\n") {
		t.Error(got)
	}
	scrape(t, help)
}

// An error says what is wrong, and comes instead of all metrics.
func TestRefused(t *testing.T) {
	gauge := func(name string) source { return one(name, metrics.Gauge, nil, 1) }
	twin := metrics.NewLease("gpu")
	for name, c := range map[string]struct {
		sources []metrics.Source
		want    string
	}{
		"series of two sources":  {[]metrics.Source{gauge("x"), gauge("x")}, "x comes from two sources"},
		"empty labels are none":  {[]metrics.Source{gauge("x"), one("x", metrics.Gauge, map[string]string{"a": ""}, 1)}, "x comes from two sources"},
		"the same source twice":  {[]metrics.Source{twin, twin}, `owner_is_owner{lease="gpu"} comes from two sources`},
		"equal after cleaning":   {[]metrics.Source{metrics.NewLease("\xfe"), metrics.NewLease("\xff")}, "comes from two sources"},
		"two types":              {[]metrics.Source{gauge("x"), one("x", metrics.Counter, map[string]string{"a": "1"}, 1)}, "x is a gauge and a counter"},
		"no name":                {[]metrics.Source{gauge("")}, `sample "": the name`},
		"name with a space":      {[]metrics.Source{gauge("a b")}, `sample "a b": the name`},
		"name with a line feed":  {[]metrics.Source{gauge("a\n")}, `sample "a\n": the name`},
		"reserved name":          {[]metrics.Source{gauge("_x")}, `sample "_x": the name`},
		"name of a rule":         {[]metrics.Source{gauge("job:x")}, `sample "job:x": the name`},
		"suffix of a counter":    {[]metrics.Source{one("x_total", metrics.Counter, nil, 1)}, "must not end in _total"},
		"suffix that can clash":  {[]metrics.Source{gauge("x_created")}, "must not end in _created"},
		"no type":                {[]metrics.Source{one("x", "", nil, 1)}, `unknown type ""`},
		"negative counter":       {[]metrics.Source{one("x", metrics.Counter, nil, -1)}, "a counter cannot be -1"},
		"NaN of a counter":       {[]metrics.Source{one("x", metrics.Counter, nil, math.NaN())}, "a counter cannot be NaN"},
		"negative sum":           {[]metrics.Source{one("x", metrics.Summary, nil, -1)}, "a summary cannot be -1"},
		"label with a hyphen":    {[]metrics.Source{one("x", metrics.Gauge, map[string]string{"a-b": "1"}, 1)}, `the label "a-b"`},
		"reserved label":         {[]metrics.Source{one("x", metrics.Gauge, map[string]string{"__name": "1"}, 1)}, `the label "__name"`},
		"quantile":               {[]metrics.Source{one("x", metrics.Summary, map[string]string{"quantile": "1"}, 1)}, `the label "quantile"`},
		"valid ones are no help": {[]metrics.Source{gauge("a"), gauge("_x"), gauge("b")}, `sample "_x"`},
	} {
		w := request(http.MethodGet, "", c.sources...)
		if w.Code != http.StatusInternalServerError || !strings.HasPrefix(w.Body.String(), "metrics: ") || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s\nwant %q", name, w.Code, w.Body, c.want)
		}
		if _, err := parse(w.Body.String()); err == nil {
			t.Errorf("%s: the error could pass for metrics", name)
		}
	}
}

func TestMethods(t *testing.T) {
	get, head := request("GET", "", mixed...), request("HEAD", "", mixed...)
	if head.Code != http.StatusOK || head.Body.Len() != 0 || fmt.Sprint(head.Header()) != fmt.Sprint(get.Header()) {
		t.Errorf("HEAD: %d %v %q\nGET: %v", head.Code, head.Header(), head.Body, get.Header())
	}
	if got := get.Header().Get("Content-Length"); got != fmt.Sprint(get.Body.Len()) {
		t.Errorf("Content-Length: %s of %d", got, get.Body.Len())
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"} {
		w := request(method, "", mixed...)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
}

const (
	openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	plainText   = "text/plain; version=0.0.4; charset=utf-8"
)

func TestAccept(t *testing.T) {
	for accept, want := range map[string]string{
		"":                             openMetrics,
		"*/*":                          openMetrics,
		"application/openmetrics-text": openMetrics,
		"application/openmetrics-text; version=1.0.0; charset=utf-8": openMetrics,
		"application/*":                         openMetrics,
		"application/json":                      openMetrics, // better than nothing
		"text/html,*/*;q=0.8":                   openMetrics,
		"nonsense;;;=,,":                        openMetrics,
		"text/plain":                            plainText,
		"TEXT/Plain; charset=utf-8":             plainText,
		"text/*":                                plainText,
		"text/plain;version=0.0.4, */*;q=0.1":   plainText,
		"application/openmetrics-text;q=0, */*": plainText,
		"application/openmetrics-text;q=0.2,text/plain;q=0.5": plainText,
		"application/openmetrics-text;q=2,text/plain;q=0.5":   plainText, // a weight is at most 1
		"text/plain;q=0":         openMetrics,
		"text/*, text/plain;q=0": openMetrics, // the more specific range counts
		"text/plain;q=0, text/*": openMetrics,
		"text/plain;q=0.5, */*":  openMetrics,
		// A range that comes twice, for two versions.
		"application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.2,text/plain;q=0.3": openMetrics,
		// Prometheus 2 and 3.
		"application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2":                                                                          openMetrics,
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2": openMetrics,
		// Prometheus with a scrape protocol of text only.
		"text/plain;version=0.0.4;q=0.3,*/*;q=0.2": plainText,
	} {
		w := request(http.MethodGet, accept, mixed...)
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("%q is answered with %s", accept, got)
		}
		if open := strings.HasSuffix(w.Body.String(), "# EOF\n"); open != (want == openMetrics) {
			t.Errorf("%q: the text is not of its type:\n%s", accept, w.Body)
		}
	}
	// Two headers are one list.
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header["Accept"] = []string{"application/openmetrics-text;q=0.1", "text/plain"}
	w := httptest.NewRecorder()
	metrics.Handler(mixed...).ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != plainText {
		t.Error(got)
	}
}
