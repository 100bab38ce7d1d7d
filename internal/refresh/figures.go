package refresh

import (
	"context"
	"time"

	"patchbay/internal/status"

	"github.com/prometheus/client_golang/prometheus"
)

// Figures are what /metrics says of this process's calls and, asked from Postgres at each scrape, of all grants. No label
// names a merchant.
type Figures struct {
	calls    *prometheus.CounterVec
	took     *prometheus.HistogramVec
	reads    *prometheus.CounterVec
	due      *prometheus.Desc
	overdue  *prometheus.Desc
	leased   *prometheus.Desc
	incident *prometheus.Desc
	engine   *Engine
}

func newFigures(e *Engine) *Figures {
	labels := []string{"provider", "environment"}
	return &Figures{
		engine: e,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_calls_total", Help: "Refreshes and connects by provider and outcome.",
		}, []string{"provider", "kind", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "patchbay_call_duration_seconds", Help: "How long providers took to answer.", Buckets: []float64{.05, .1, .2, .3, .5, .75, 1, 1.5, 2, 3, 5, 10, 20},
		}, []string{"provider", "kind"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_token_reads_total", Help: "Tokens asked for through the JSON API, by outcome.",
		}, []string{"outcome"}),
		due:      prometheus.NewDesc("patchbay_grants_due", "Grants whose refresh is due, up to 100,000.", labels, nil),
		overdue:  prometheus.NewDesc("patchbay_grants_overdue", "Grants whose refresh has been due for over five minutes, up to 100,000.", labels, nil),
		leased:   prometheus.NewDesc("patchbay_leases", "Refreshes under way, in all processes.", labels, nil),
		incident: prometheus.NewDesc("patchbay_incident", "1 while the provider fails for everybody.", labels, nil),
	}
}

func (f *Figures) count(provider, kind string, class status.Outcome, took time.Duration) {
	f.calls.WithLabelValues(provider, kind, string(class)).Inc()
	if took > 0 {
		f.took.WithLabelValues(provider, kind).Observe(took.Seconds())
	}
}

// Read counts one asking for a token; outcome is ok or a problem's type.
func (f *Figures) Read(outcome string) { f.reads.WithLabelValues(outcome).Inc() }

// Describe makes Figures a prometheus.Collector.
func (f *Figures) Describe(ch chan<- *prometheus.Desc) {
	f.calls.Describe(ch)
	f.took.Describe(ch)
	f.reads.Describe(ch)
	for _, desc := range []*prometheus.Desc{f.due, f.overdue, f.leased, f.incident} {
		ch <- desc
	}
}

// Collect makes Figures a prometheus.Collector.
func (f *Figures) Collect(ch chan<- prometheus.Metric) {
	f.calls.Collect(ch)
	f.took.Collect(ch)
	f.reads.Collect(ch)
	ctx, cancel := context.WithTimeout(f.engine.life, 5*time.Second)
	defer cancel()
	for _, l := range f.engine.order {
		name, environment := l.info.Name, l.info.Environment
		n, err := f.engine.DB.LaneFigures(ctx, name, environment)
		if err != nil {
			f.engine.Log.Warn("figures of grants", "provider", name, "err", err)
			continue
		}
		gauge := func(desc *prometheus.Desc, value float64) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, name, environment)
		}
		gauge(f.due, float64(n.Due))
		gauge(f.overdue, float64(n.Overdue))
		gauge(f.leased, float64(n.Leased))
		state, err := f.engine.DB.ProviderState(ctx, name, environment)
		if err != nil {
			continue
		}
		open := 0.0
		if !state.IncidentSince.IsZero() {
			open = 1
		}
		gauge(f.incident, open)
	}
}
