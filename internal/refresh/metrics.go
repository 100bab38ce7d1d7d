package refresh

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"patchbay/internal/status"
)

// Metrics are what /metrics says of this process's calls and, asked from Postgres at each scrape, of all grants. No label
// names a merchant.
type Metrics struct {
	calls    *prometheus.CounterVec
	took     *prometheus.HistogramVec
	reads    *prometheus.CounterVec
	due      *prometheus.Desc
	overdue  *prometheus.Desc
	leased   *prometheus.Desc
	incident *prometheus.Desc
	paused   *prometheus.Desc
	began    *prometheus.Desc
	polled   *prometheus.Desc
	oldest   *prometheus.Desc
	unsaved  *prometheus.Desc
	engine   *Engine
}

func newMetrics(e *Engine) *Metrics {
	var buckets []float64
	for _, bound := range LatencyBounds {
		buckets = append(buckets, bound.Seconds())
	}
	labels := []string{"provider", "environment"}
	return &Metrics{
		engine: e,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_calls_total", Help: "Refreshes and connects by provider and outcome.",
		}, []string{"provider", "kind", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "patchbay_call_duration_seconds", Help: "How long providers took to answer.", Buckets: buckets,
		}, []string{"provider", "kind"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_token_reads_total", Help: "Tokens asked for through the JSON API, by outcome.",
		}, []string{"outcome"}),
		due:      prometheus.NewDesc("patchbay_grants_due", "Grants whose refresh is due, up to 100,000.", labels, nil),
		overdue:  prometheus.NewDesc("patchbay_grants_overdue", "Grants whose refresh has been due for over five minutes, up to 100,000.", labels, nil),
		leased:   prometheus.NewDesc("patchbay_leases", "Refreshes under way, in all processes.", labels, nil),
		incident: prometheus.NewDesc("patchbay_incident", "1 while the provider has an incident.", labels, nil),
		paused:   prometheus.NewDesc("patchbay_paused_seconds", "How long the provider is still paused because it asked several merchants to wait.", labels, nil),
		began:    prometheus.NewDesc("patchbay_incident_since_seconds", "How long the provider's incident has lasted; 0 without one.", append(labels, "reason"), nil),
		polled:   prometheus.NewDesc("patchbay_sweep_last_round_timestamp_seconds", "When this process last looked for refreshes that are due.", labels, nil),
		oldest:   prometheus.NewDesc("patchbay_oldest_due_seconds", "For how long the refresh that waits longest has been due.", labels, nil),
		unsaved:  prometheus.NewDesc("patchbay_unsaved_answers", "Outcomes of calls that this process holds in memory because they cannot be saved. It begins no refresh meanwhile.", nil, nil),
	}
}

func (m *Metrics) count(provider, kind string, outcome status.Outcome, took time.Duration) {
	m.calls.WithLabelValues(provider, kind, string(outcome)).Inc()
	if took > 0 {
		m.took.WithLabelValues(provider, kind).Observe(took.Seconds())
	}
}

// Read counts one read of a token; outcome is ok or a problem's type.
func (m *Metrics) Read(outcome string) { m.reads.WithLabelValues(outcome).Inc() }

// Describe makes Metrics a prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.calls.Describe(ch)
	m.took.Describe(ch)
	m.reads.Describe(ch)
	for _, desc := range []*prometheus.Desc{m.due, m.overdue, m.leased, m.incident, m.paused, m.began, m.polled, m.oldest, m.unsaved} {
		ch <- desc
	}
}

// Collect makes Metrics a prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.calls.Collect(ch)
	m.took.Collect(ch)
	m.reads.Collect(ch)
	ch <- prometheus.MustNewConstMetric(m.unsaved, prometheus.GaugeValue, float64(m.engine.saves.unsaved.Load()))
	ctx, cancel := context.WithTimeout(m.engine.ctx, 5*time.Second)
	defer cancel()
	for _, q := range m.engine.order {
		name, environment := q.info.Name, q.info.Environment
		gauge := func(desc *prometheus.Desc, value float64) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, name, environment)
		}
		if polled := q.polled.Load(); polled > 0 { // also while the database does not answer
			gauge(m.polled, float64(polled))
		}
		n, err := q.stats(ctx)
		if err != nil {
			m.engine.Log.Warn("metrics of grants", "provider", name, "err", err)
			continue
		}
		gauge(m.due, float64(n.Due))
		gauge(m.overdue, float64(n.Overdue))
		gauge(m.leased, float64(n.Leased))
		gauge(m.oldest, n.Oldest.Seconds())
		state, err := m.engine.ProviderState(ctx, name, environment)
		if err != nil {
			continue
		}
		open, since := 0.0, time.Duration(0)
		if !state.IncidentSince.IsZero() {
			open, since = 1, m.engine.DB.Now().Sub(state.IncidentSince)
		}
		ch <- prometheus.MustNewConstMetric(m.began, prometheus.GaugeValue, since.Seconds(), name, environment, string(state.Reason))
		gauge(m.incident, open)
		gauge(m.paused, max(0, state.PausedUntil.Sub(m.engine.DB.Now()).Seconds()))
	}
}
