package handlers

import (
	"context"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
)

// metrics serves Prometheus. It is open to loopback and TRUSTED_PROXIES only, and not to requests that a proxy forwards.
func (s *Server) metrics() http.HandlerFunc {
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Refresh.Metrics, s.Webhooks, s.requests, databaseMetrics{s}, jobMetrics{s}, poolMetrics{s.DB}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	figures := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.fromOperator(r) {
			http.NotFound(w, r)
			return
		}
		figures.ServeHTTP(w, r)
	}
}

// jobMetrics are the jobs of all processes that were not done.
type jobMetrics struct{ server *Server }

// Describe sends nothing, which makes the collector unchecked.
func (jobMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect makes jobMetrics a prometheus.Collector.
func (m jobMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	backlogs, err := m.server.Jobs.Backlogs(ctx)
	if err != nil {
		m.server.Log.WarnContext(ctx, "metrics of jobs", "err", err)
		return
	}
	for _, state := range []string{"waiting", "given-up"} { // a rule for mail has a figure to go by while all is well
		none := jobs.Backlog{Kind: jobs.MailKind, GivenUp: state == "given-up"}
		if !slices.ContainsFunc(backlogs, func(b jobs.Backlog) bool { return b.Kind == none.Kind && b.GivenUp == none.GivenUp }) {
			backlogs = append(backlogs, none)
		}
	}
	for _, b := range backlogs {
		state, oldest := "waiting", 0.0
		if b.GivenUp {
			state = "given-up"
		}
		if !b.Oldest.IsZero() {
			oldest = m.server.DB.Now().Sub(b.Oldest).Seconds()
		}
		gauge := func(name, help string, value float64) {
			ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, []string{"kind", "state"}, nil), prometheus.GaugeValue, value, b.Kind, state)
		}
		gauge("patchbay_jobs", "Jobs that wait because they failed or are late, and those given up within a week.", float64(b.Jobs))
		gauge("patchbay_jobs_oldest_seconds", "How long ago the oldest of these jobs was added.", oldest)
	}
}

// poolMetrics are metrics of the pool of connections to Postgres.
type poolMetrics struct{ db *db.DB }

func poolDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("patchbay_pool_"+name, help, nil, nil)
}

// Describe sends nothing, which makes the collector unchecked.
func (poolMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics.
func (p poolMetrics) Collect(ch chan<- prometheus.Metric) {
	stat := p.db.Pool.Stat()
	gauge := func(name, help string, value float64) {
		ch <- prometheus.MustNewConstMetric(poolDesc(name, help), prometheus.GaugeValue, value)
	}
	gauge("connections", "Connections to Postgres, open.", float64(stat.TotalConns()))
	gauge("connections_in_use", "Connections to Postgres, in use.", float64(stat.AcquiredConns()))
	gauge("connections_max", "Connections to Postgres, at most.", float64(stat.MaxConns()))
	ch <- prometheus.MustNewConstMetric(poolDesc("waits_total", "How often a connection to Postgres had to be waited for."), prometheus.CounterValue, float64(stat.EmptyAcquireCount()))
	ch <- prometheus.MustNewConstMetric(poolDesc("wait_seconds_total", "How long connections to Postgres were waited for."), prometheus.CounterValue, stat.AcquireDuration().Seconds())
}

// requestMetrics count requests by route, and webhooks of providers.
type requestMetrics struct {
	answers  *prometheus.CounterVec
	took     *prometheus.HistogramVec
	webhooks *prometheus.CounterVec
}

func newRequestMetrics() *requestMetrics {
	return &requestMetrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_http_requests_total", Help: "Requests by route and status. Tokens that were handed out are in patchbay_token_reads_total.",
		}, []string{"route", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "patchbay_http_request_duration_seconds", Help: "How long answers took, by route.", Buckets: []float64{.005, .02, .05, .2, 1, 5, 20, 60},
		}, []string{"route"}),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_webhooks_total", Help: "Webhooks received, by provider and outcome: taken, refused (a wrong address or secret), not-understood, failed.",
		}, []string{"provider", "outcome"}),
	}
}

// count counts one answer. A request without a route has the label "none", so that no path becomes one.
func (m *requestMetrics) count(route string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.answers.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.took.WithLabelValues(route).Observe(took.Seconds())
}

// Describe makes requestMetrics a prometheus.Collector.
func (m *requestMetrics) Describe(ch chan<- *prometheus.Desc) {
	m.answers.Describe(ch)
	m.took.Describe(ch)
	m.webhooks.Describe(ch)
}

// Collect makes requestMetrics a prometheus.Collector.
func (m *requestMetrics) Collect(ch chan<- prometheus.Metric) {
	m.answers.Collect(ch)
	m.took.Collect(ch)
	m.webhooks.Collect(ch)
}

// databaseMetrics are what the database says of all processes together, whether it can be used, and what this program is.
type databaseMetrics struct{ server *Server }

// Describe sends nothing, which makes the collector unchecked.
func (databaseMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect makes databaseMetrics a prometheus.Collector.
func (m databaseMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.server
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	gauge := func(name, help string, value float64, labels ...string) { // labels: names and values in turn
		var names, values []string
		for i := 0; i < len(labels); i += 2 {
			names, values = append(names, labels[i]), append(values, labels[i+1])
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), prometheus.GaugeValue, value, values...)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		gauge("patchbay_build_info", "1, with the version.", 1, "version", info.Main.Version, "go", info.GoVersion)
	}
	if state := s.DB.ReplicaState(); state != pg.ReplicaNone {
		used := 0.0
		if state == pg.ReplicaUsed {
			used = 1
		}
		gauge("patchbay_replica_used", "1 while lists are read from READ_DATABASE_URL, else 0 with the reason.", used, "state", string(state))
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("patchbay_replica_fallbacks_total", "Reads that the replica might have done and the primary did.", nil, nil),
			prometheus.CounterValue, float64(s.DB.ReplicaFallbacks()))
	}
	for table, n := range s.DB.ForgedRows() {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("patchbay_forged_rows_total", "How often a row that gives authority was refused because its MAC is not valid.",
			[]string{"table"}, nil), prometheus.CounterValue, float64(n), table)
	}
	lacks := 0.0
	if s.DB.LacksKey() != 0 {
		lacks = 1
	}
	gauge("patchbay_key_unknown", "1 if a row was met within a minute that is sealed or signed by a key that this process lacks.", lacks)
	err := s.DB.Ready(ctx)
	up := 0.0
	if err == nil {
		up = 1
	}
	gauge("patchbay_database_up", "1 while Postgres answers, takes writes and opens with the keyset.", up)
	if err != nil {
		return
	}
	if months, err := s.DB.Audit.MonthsAhead(ctx); err == nil {
		gauge("patchbay_events_months_ahead", "How many of the next three months have a partition of events; they are made every minute. Without one nothing can be saved.", float64(months))
	}
	gauge("patchbay_clock_skew_seconds", "How far this host's clock is ahead of Postgres's.", time.Since(s.DB.Now()).Seconds(), "of", "host")
	counts, err := s.DB.Counts(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "metrics of connections", "err", err)
		return
	}
	type labels struct{ provider, environment, health string }
	connections := map[labels]int64{}
	providers := s.statuses(ctx)
	for _, c := range counts {
		connections[labels{c.Provider, c.Environment, string(c.CurrentHealth(providers))}] += c.Connections
	}
	for l, n := range connections {
		gauge("patchbay_connections", "Connections by provider and health.", float64(n), "provider", l.provider, "environment", l.environment, "health", l.health)
	}
	old, err := s.DB.CountOldSeals(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "metrics of seals", "err", err)
		return
	}
	gauge("patchbay_old_seals", "Rows sealed or signed by an older key of the keyset, which are sealed anew by themselves.", float64(old))
	pending, err := s.DB.CountPendingRevocations(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "metrics of erasures", "err", err)
		return
	}
	gauge("patchbay_erasure_revocations_owed", "Accesses of erased merchants that their providers are still to end.", float64(pending))
}
