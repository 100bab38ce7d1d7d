// Command alerts checks a file of Prometheus rules, and says which of its alerts would fire in given states of a service. A state is
// two scrapes of /metrics; it is taken to go on as it went from the first to the second. It is a module of its own, so that the
// service does not depend on Prometheus. The tests in cmd/web run it.
//
//	alerts RULES <states.json
//
// The input maps the name of a state to its scrapes, [{"at": seconds since 1970, "text": "…"}, …]. The output maps it to the alerts that
// fire, each with the seconds after which it does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: alerts RULES <states.json")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "alerts:", err)
		os.Exit(1)
	}
}

func run(rules string) error {
	syntax := parser.NewParser(parser.Options{})
	groups, faults := rulefmt.ParseFile(rules, false, model.UTF8Validation, syntax, promslog.NewNopLogger())
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	var states map[string][]scrape
	if err := json.NewDecoder(os.Stdin).Decode(&states); err != nil {
		return fmt.Errorf("the states: %w", err)
	}
	engine := promql.NewEngine(promql.EngineOpts{
		Logger: promslog.NewNopLogger(), MaxSamples: 1_000_000, Timeout: time.Minute, LookbackDelta: lookback, EnableAtModifier: true, EnableNegativeOffset: true, Parser: syntax,
	})
	firing := map[string]map[string]int{}
	for name, scrapes := range states {
		s, err := goesOn(scrapes)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		firing[name] = map[string]int{}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				after, fires, err := s.fires(engine, rule)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", name, rule.Alert, err)
				}
				if fires {
					firing[name][rule.Alert] = int(after.Seconds())
				}
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(firing)
}

// How rules are evaluated: as long as their own "for" and two hours more, so that what grows or is counted comes to its threshold.
const (
	lookback = 5 * time.Minute // Prometheus's own default
	beyond   = 2 * time.Hour
)

// scrape is one answer of /metrics.
type scrape struct {
	At   float64 `json:"at"`
	Text string  `json:"text"`
}

// state is a service whose figures go on as they went between two scrapes.
type state struct {
	began  time.Time // the second scrape
	step   time.Duration
	series []series
}

// series is one figure: a value at the second scrape, and by how much it changes a second.
type series struct {
	labels      labels.Labels
	value, rate float64
}

// goesOn reads two scrapes. A counter goes on at its pace, a time and an age go on with the clock if they moved, and any other gauge
// stays as it was last.
func goesOn(scrapes []scrape) (*state, error) {
	if len(scrapes) != 2 || scrapes[1].At <= scrapes[0].At {
		return nil, errors.New("a state is two scrapes, one after the other")
	}
	first, _, err := figures(scrapes[0].Text)
	if err != nil {
		return nil, err
	}
	second, counters, err := figures(scrapes[1].Text)
	if err != nil {
		return nil, err
	}
	elapsed := scrapes[1].At - scrapes[0].At
	s := &state{began: time.UnixMilli(int64(scrapes[1].At * 1000))}
	for hash, f := range second {
		before, there := first[hash]
		name := f.labels.Get(labels.MetricName)
		switch {
		case counters[hash]: // one that is new was zero
			f.rate = (f.value - before.value) / elapsed
		case !there:
		case strings.HasSuffix(name, "_timestamp_seconds") && f.value > before.value: // it is noted in whole seconds, again and again
			f.rate = 1
		case strings.HasSuffix(name, "_seconds") && (f.value-before.value) > elapsed/2 && (f.value-before.value) < elapsed*2: // an age
			f.rate = 1
		}
		s.series = append(s.series, f)
	}
	return s, nil
}

// figures reads the counters and gauges of a scrape, with the labels that Prometheus adds.
func figures(text string) (all map[uint64]series, counters map[uint64]bool, err error) {
	read := expfmt.NewTextParser(model.UTF8Validation)
	families, err := read.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	all, counters = map[uint64]series{}, map[uint64]bool{}
	for name, family := range families {
		for _, m := range family.Metric {
			b := labels.NewScratchBuilder(len(m.Label) + 3)
			b.Add(labels.MetricName, name)
			b.Add("job", "patchbay")
			b.Add("instance", "patchbay:8080")
			for _, l := range m.Label {
				b.Add(l.GetName(), l.GetValue())
			}
			b.Sort()
			f := series{labels: b.Labels()}
			switch family.GetType() {
			case io_prometheus_client.MetricType_COUNTER:
				f.value = m.Counter.GetValue()
				counters[f.labels.Hash()] = true
			case io_prometheus_client.MetricType_GAUGE:
				f.value = m.Gauge.GetValue()
			default:
				continue
			}
			all[f.labels.Hash()] = f
		}
	}
	return all, counters, nil
}

// fires evaluates a rule as time goes on, and returns after how long it fires.
func (s *state) fires(engine *promql.Engine, rule rulefmt.Rule) (after time.Duration, fires bool, err error) {
	wait := time.Duration(rule.For)
	if s.step = 30 * time.Second; wait > 24*time.Hour {
		s.step = lookback - time.Second // as rarely as a figure stays known
	}
	active := map[uint64]time.Time{} // since when, by the labels of the alert
	for at := s.began; !at.After(s.began.Add(wait + beyond)); at = at.Add(s.step) {
		query, err := engine.NewInstantQuery(context.Background(), s, nil, rule.Expr, at)
		if err != nil {
			return 0, false, err
		}
		result := query.Exec(context.Background())
		found, err := result.Vector()
		if err != nil {
			return 0, false, errors.Join(result.Err, err)
		}
		still := map[uint64]time.Time{}
		for _, sample := range found {
			hash := sample.Metric.DropReserved(func(name string) bool { return name == labels.MetricName }).Hash()
			since, was := active[hash]
			if !was {
				since = at
			}
			still[hash] = since
			if at.Sub(since) >= wait {
				query.Close()
				return at.Sub(s.began), true, nil
			}
		}
		active = still
		query.Close()
	}
	return 0, false, nil
}

// Querier makes a state a storage.Queryable.
func (s *state) Querier(from, to int64) (storage.Querier, error) { return &querier{s, from, to}, nil }

type querier struct {
	*state
	from, to int64 // in milliseconds
}

// Select makes querier a storage.Querier.
func (q *querier) Select(_ context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	from, to := q.from, q.to
	if hints != nil {
		from, to = max(from, hints.Start), min(to, hints.End)
	}
	began, step := q.began.UnixMilli(), q.step.Milliseconds()
	found := &seriesSet{at: -1}
	for _, one := range q.series {
		if !matches(one.labels, matchers) {
			continue
		}
		var samples []chunks.Sample
		for t := began + max(0, from-began)/step*step; t <= to; t += step {
			if t >= from {
				samples = append(samples, sample{t, one.value + one.rate*float64(t-began)/1000})
			}
		}
		found.all = append(found.all, storage.NewListSeries(one.labels, samples))
	}
	return found
}

func matches(l labels.Labels, matchers []*labels.Matcher) bool {
	for _, m := range matchers {
		if !m.Matches(l.Get(m.Name)) {
			return false
		}
	}
	return true
}

// LabelValues makes querier a storage.Querier. No rule asks for them.
func (*querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errors.ErrUnsupported
}

// LabelNames makes querier a storage.Querier. No rule asks for them.
func (*querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errors.ErrUnsupported
}

// Close makes querier a storage.Querier.
func (*querier) Close() error { return nil }

// sample is one value of a series at a time, in milliseconds.
type sample struct {
	at    int64
	value float64
}

// The methods of chunks.Sample.
func (s sample) T() int64                      { return s.at }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// seriesSet is the series that a query selects.
type seriesSet struct {
	all []storage.Series
	at  int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at < len(s.all) }
func (s *seriesSet) At() storage.Series                { return s.all[s.at] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }
