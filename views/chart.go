package views

import (
	"context"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/status"
)

// ChartPoint is an hour's or a day's calls, and how many of them failed. URL leads to the failed ones.
type ChartPoint struct {
	At            time.Time
	Calls, Failed int64
	Incident      bool // one lasted then
	URL           string
}

// The panels of a chart inside its view box, in the view box's units: the share that failed above, on a scale of its own, and all calls
// below.
const (
	chartLeft, chartRight = 64.0, 760.0
	rateTop, rateBottom   = 20.0, 118.0
	callsTop, callsBottom = 146.0, 214.0
)

type chartBar struct {
	X, Width, Label, Title                       string
	RateY, RateHeight, CallsY, CallsHeight, Mark string // "" for none
}

type chartLine struct{ Y, Label string }

// grid returns the lines of a chart, with their values.
func grid(ctx context.Context, points []ChartPoint) []chartLine {
	return []chartLine{
		{units(rateTop), Number(ctx, rateScale(points)) + " %"},
		{units(rateBottom), "0 %"},
		{units(callsTop), compactNumber(ctx, callsScale(points))},
		{units(callsBottom), "0"},
	}
}

// rateScale returns the percentage at the top of the upper panel, which the highest bar nearly reaches.
func rateScale(points []ChartPoint) int64 {
	for _, top := range []int64{1, 2, 5, 10, 20, 50} {
		fits := true
		for _, p := range points {
			fits = fits && p.Failed*100 <= top*p.Calls
		}
		if fits {
			return top
		}
	}
	return 100
}

// callsScale returns the number at the top of the lower panel: the most calls, rounded up to 1, 2 or 5 times a power of ten.
func callsScale(points []ChartPoint) int64 {
	most := int64(1)
	for _, p := range points {
		most = max(most, p.Calls)
	}
	for top := int64(1); ; top *= 10 {
		for _, f := range []int64{1, 2, 5} {
			if top*f >= most {
				return top * f
			}
		}
	}
}

// bars draws a chart. label returns the text below a bar, "" for nothing; title, what a pointer that rests on it shows.
func bars(ctx context.Context, points []ChartPoint, label func(i int, p ChartPoint) string, when func(ChartPoint) string) []chartBar {
	step := (chartRight - chartLeft) / float64(max(len(points), 1))
	rates, calls := rateScale(points), callsScale(points)
	out := make([]chartBar, 0, len(points))
	for i, p := range points {
		b := chartBar{X: units(chartLeft + step*float64(i)), Width: units(step * .8), Label: label(i, p), Title: when(p) + ": " + pointText(ctx, p)}
		if p.Failed > 0 {
			height := max((rateBottom-rateTop)*float64(p.Failed)*100/float64(p.Calls)/float64(rates), 2) // so that one among thousands is visible
			b.RateY, b.RateHeight = units(rateBottom-height), units(height)
		}
		if p.Calls > 0 {
			height := max((callsBottom-callsTop)*float64(p.Calls)/float64(calls), 1.5)
			b.CallsY, b.CallsHeight = units(callsBottom-height), units(height)
		}
		if p.Incident {
			b.Mark = units(rateBottom + 4)
		}
		out = append(out, b)
	}
	return out
}

// pointText says a point's figures in words.
func pointText(ctx context.Context, p ChartPoint) string {
	return T(ctx, "admin_providers.day-refreshes", "Count", p.Calls) + " · " + T(ctx, "admin_providers.day-failed", "Count", p.Failed, "Percent", rate(ctx, p.Failed, p.Calls))
}

// rate returns a percentage to a tenth, so that a few among thousands are not nothing.
func rate(ctx context.Context, part, whole int64) string {
	if whole == 0 || part == 0 {
		return "0"
	}
	tenths := part * 1000 / whole
	if tenths == 0 {
		tenths = 1
	}
	if tenths%10 == 0 {
		return strconv.FormatInt(tenths/10, 10)
	}
	point := "."
	if localeOf(ctx).tag == "fr" {
		point = ","
	}
	return strconv.FormatInt(tenths/10, 10) + point + strconv.FormatInt(tenths%10, 10)
}

// worst returns the points of which the most failed, at most three, the latest of equal ones first.
func worst(points []ChartPoint) []ChartPoint {
	var out []ChartPoint
	for range 3 {
		at := -1
		for i, p := range points {
			taken := false
			for _, o := range out {
				taken = taken || o.At.Equal(p.At)
			}
			if !taken && p.Failed > 0 && (at < 0 || p.Failed*points[at].Calls >= points[at].Failed*p.Calls) {
				at = i
			}
		}
		if at < 0 {
			break
		}
		out = append(out, points[at])
	}
	return out
}

// points returns the overview's hours as points of its chart.
func (v OverviewPage) points() []ChartPoint {
	out := make([]ChartPoint, len(v.Hours))
	for i, h := range v.Hours {
		out[i] = ChartPoint{At: h.Hour, Calls: h.sum(), Failed: h.sum() - h.Calls[status.OK], URL: h.URL}
	}
	return out
}

// hourLabel labels every sixth hour of the overview's chart, where there is room.
func (v OverviewPage) hourLabel(ctx context.Context) func(int, ChartPoint) string {
	l := localeOf(ctx)
	return func(i int, p ChartPoint) string {
		hour := l.at(p.At).Hour()
		switch {
		case hour%6 != 0 || i >= len(v.Hours)-3:
			return ""
		case l.tag == "fr":
			return strconv.Itoa(hour) + " h"
		default:
			return strconv.Itoa(hour) + ":00"
		}
	}
}

// hourName says which hour a point is.
func hourName(ctx context.Context) func(ChartPoint) string {
	return func(p ChartPoint) string { return Day(ctx, p.At) + " " + Clock(ctx, p.At) }
}

// dayName says which day a point is.
func dayName(ctx context.Context) func(ChartPoint) string {
	return func(p ChartPoint) string { return Day(ctx, p.At) }
}

// dayLabel labels every tenth day, from the latest backwards.
func dayLabel(ctx context.Context, points []ChartPoint) func(int, ChartPoint) string {
	return func(i int, p ChartPoint) string {
		if from := len(points) - i; from%10 == 0 {
			return strings.TrimSpace(Day(ctx, p.At))
		}
		return ""
	}
}
