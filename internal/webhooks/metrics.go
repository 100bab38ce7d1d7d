package webhooks

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Describe sends nothing, which makes the collector unchecked.
func (*Webhooks) Describe(chan<- *prometheus.Desc) {}

// Collect makes Webhooks a prometheus.Collector: the tries of this process, and the endpoints and deliveries of all.
func (w *Webhooks) Collect(ch chan<- prometheus.Metric) {
	w.tries.Collect(ch)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := w.Endpoints(ctx)
	if err != nil {
		w.Log.WarnContext(ctx, "metrics of webhooks", "err", err)
		return
	}
	endpoints, waiting, failed := map[State]int64{}, map[State]int64{}, map[State]int64{}
	for _, e := range all {
		endpoints[e.State()]++
		waiting[e.State()] += e.Waiting
		failed[e.State()] += e.Failed
	}
	count := prometheus.NewDesc("patchbay_webhook_endpoints", "Endpoints of webhooks to the platform, by state.", []string{"endpoint"}, nil)
	deliveries := prometheus.NewDesc("patchbay_webhook_deliveries", "Deliveries that wait, and those that failed within 30 days, by the state of their endpoint.", []string{"endpoint", "state"}, nil)
	for _, s := range States() {
		ch <- prometheus.MustNewConstMetric(count, prometheus.GaugeValue, float64(endpoints[s]), string(s))
		ch <- prometheus.MustNewConstMetric(deliveries, prometheus.GaugeValue, float64(waiting[s]), string(s), string(Waiting))
		ch <- prometheus.MustNewConstMetric(deliveries, prometheus.GaugeValue, float64(failed[s]), string(s), string(Failed))
	}
}
