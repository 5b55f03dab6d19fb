package reach

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner/metrics"
	"github.com/ownerlease/owner/ownertest"
)

func TestCounts(t *testing.T) {
	store := ownertest.NewMemory()
	c := newClient(t, store)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.RoundTrip(request(t, "GET", "/", nil).WithContext(ctx)); err == nil {
		t.Error("there is no owner")
	}
	serve(t, store, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		echo(w, r)
	})})
	for range 3 {
		ask(t, c, "POST", "/", "x")
	}
	if _, err := c.RoundTrip(request(t, "POST", "/abort", nil)); err == nil {
		t.Error("the handler has aborted")
	}
	r := request(t, "POST", "/", nil)
	r.URL.Scheme = "ftp" // is no request
	if _, err := c.RoundTrip(r); err == nil {
		t.Error("ftp")
	}

	w := httptest.NewRecorder()
	metrics.Handler(c).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	for _, want := range []string{
		`reach_requests_total{lease="a lease in memory",outcome="answered"} 3`,
		`reach_requests_total{lease="a lease in memory",outcome="no_owner"} 1`,
		`reach_requests_total{lease="a lease in memory",outcome="unknown"} 1`,
		`reach_requests_total{lease="a lease in memory",outcome="failed"} 0`,
		`reach_hold_seconds_count{lease="a lease in memory"} 5`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	var held float64
	_, value, _ := strings.Cut(text, `reach_hold_seconds_sum{lease="a lease in memory"} `)
	if _, err := fmt.Sscan(value, &held); err != nil || held < 0.02 || held > 20 {
		t.Errorf("held for %v s (%v), want what the first request has waited, in\n%s", held, err, text)
	}
}
