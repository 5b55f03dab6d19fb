package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

func get(h http.Handler) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func readDocs(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}
