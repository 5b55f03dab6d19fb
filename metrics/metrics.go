// Package metrics exposes leases to a monitoring system, as OpenMetrics text that Prometheus
// and others scrape. Nothing is global: a [Handler] exposes the sources that it was given.
//
//	lease := metrics.NewLease("gpu")
//	http.Handle("/metrics", metrics.Handler(lease))
//	err := owner.Run(ctx, cfg, func(ctx context.Context, o *owner.Owner) error {
//		lease.Observe(o)
//		return serve(ctx)
//	})
//
// docs/monitoring.md lists the metrics of a [Lease] and the alerts to set on them.
package metrics

import (
	"net/http"
	"slices"
	"strconv"
)

// Source has something to expose: a [Lease], for example.
type Source interface {
	// Collect calls add once for each of the source's series, and not after it has
	// returned. It is called at every scrape, for several scrapes at once, and should
	// take no longer than a moment.
	Collect(add func(Sample))
}

// Type is the type of a metric.
type Type string

// The types of metrics.
const (
	Gauge   Type = "gauge"   // a value that rises and falls
	Counter Type = "counter" // a total since the process began, which never falls
	Summary Type = "summary" // how many events there were, and the sum of their values
)

// Sample is one series at the time of a scrape. Samples with the same Name are one metric:
// they have the same Type, and differ in their Labels.
type Sample struct {
	// Name is the metric's name without the suffix that belongs to its type: a counter
	// named owner_losses is exposed as owner_losses_total. A name that ends in _seconds
	// or _bytes says its unit.
	Name string
	Type Type
	// Help says in a sentence what is measured. The first sample of a metric counts.
	Help string
	// Labels distinguish the series of a metric. A label without a value is left out.
	Labels map[string]string
	// Value is the value; of a Summary, the sum.
	Value float64
	// Count is how many events a Summary has seen. Other types do not use it.
	Count uint64
}

// Handler answers a GET with all that the sources have to expose, as OpenMetrics text
// 1.0.0, or in Prometheus' text format 0.0.4 if the client prefers text/plain.
//
// The metrics are sorted, and those of several sources are merged into one where they have
// the same name. A series must come from one source only: where two have the same name and
// labels, or a sample is invalid, the answer is an error 500 that names it. A part of the
// metrics could pass for all of them.
func Handler(sources ...Source) http.Handler {
	sources = slices.Clone(sources)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "metrics: only GET and HEAD are allowed", http.StatusMethodNotAllowed)
			return
		}
		families, err := gather(sources)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		format := negotiate(r.Header)
		body := format.encode(families)
		w.Header().Set("Content-Type", format.contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Header().Set("Vary", "Accept")
		if r.Method == http.MethodGet {
			_, _ = w.Write(body) // an error here is the client's: it has gone
		}
	})
}
