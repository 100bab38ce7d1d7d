package views

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/status"

	"github.com/a-h/templ"
)

// labelled fills in the labels that a filter's options came without: words under prefix, "any" for the empty value.
func labelled(ctx context.Context, prefix string, options []Option) []Option {
	out := make([]Option, len(options))
	for i, o := range options {
		switch {
		case o.Label != "":
		case o.Value == "":
			o.Label = T(ctx, "filter.any")
		default:
			o.Label = wordFor(ctx, prefix, o.Value)
		}
		out[i] = o
	}
	return out
}

// inUse says whether the form has something to say, and so must not be folded away.
func (v InviteForm) inUse() bool {
	return v.Link != "" || v.Errors.Of("email") != "" || v.Errors.Of("name") != "" || v.Errors.Of("merchant") != ""
}

// kindOptions are the kinds of events with their words, which speak of "the provider" as no one is named.
func kindOptions(ctx context.Context, kinds []Option) []Option {
	out := make([]Option, len(kinds))
	for i, o := range kinds {
		switch {
		case o.Label != "":
		case o.Value == "":
			o.Label = T(ctx, "filter.any")
		default:
			o.Label = kindText(ctx, o.Value)
		}
		out[i] = o
	}
	return out
}

func roleOptions(ctx context.Context, chosen string) []Option {
	var out []Option
	for _, r := range []string{"merchant", "support", "admin"} {
		out = append(out, Option{Value: r, Label: wordFor(ctx, "role.", r), Selected: r == chosen})
	}
	return out
}

// found says how many the list has, as well as that is known without counting them all.
func (v AdminConnectionsPage) found(ctx context.Context) string {
	switch {
	case v.About >= 0 && v.About > int64(v.Shown):
		return T(ctx, "admin_connections.shown-of", "Shown", count(ctx, v.Shown), "About", Number(ctx, v.About))
	case v.Pager.Next != "" || v.Pager.Prev != "":
		return shownSome(ctx, v.Shown, v.Length)
	}
	return T(ctx, "admin_connections.shown", "Count", v.Shown)
}

// shownSome says how many a page of a longer list has: how long that is, only counting would tell. All pages but the last have
// most lines.
func shownSome(ctx context.Context, shown, most int) string {
	return T(ctx, "admin_connections.shown-some", "Shown", count(ctx, shown), "Most", count(ctx, max(shown, most)))
}

// found says how many the list has, or that there are more than a page of them.
func (v EventsPage) found(ctx context.Context) string {
	if v.Pager.Next != "" || v.Pager.Prev != "" {
		return shownSome(ctx, len(v.Rows), v.Length)
	}
	return T(ctx, "admin_events.shown", "Count", len(v.Rows))
}

// filters counts those that are set, besides the search box: with any, they stay in view where there is room for them.
func (v AdminConnectionsPage) filters() (set int) {
	for _, options := range [][]Option{v.Providers, v.Healths, v.Whos, v.Problems, v.Environment, v.Used} {
		set += chosen(options)
	}
	for _, typed := range []string{v.Since, v.Merchant} {
		if typed != "" {
			set++
		}
	}
	return set
}

// filters counts those that are set.
func (v EventsPage) filters() (set int) {
	for _, options := range [][]Option{v.Kinds, v.Classes, v.Providers} {
		set += chosen(options)
	}
	for _, typed := range []string{v.Actor, v.Merchant, v.Connection, v.From, v.To} {
		if typed != "" {
			set++
		}
	}
	return set
}

func chosen(options []Option) int {
	for _, o := range options {
		if o.Selected && o.Value != "" {
			return 1
		}
	}
	return 0
}

// filtersSummary says on folded filters how many of them are set.
func filtersSummary(ctx context.Context, set int) string {
	if set == 0 {
		return T(ctx, "filter.more")
	}
	return T(ctx, "filter.more") + " (" + count(ctx, set) + ")"
}

func (v AdminConnectionsPage) merchantShown() string {
	if v.MerchantName != "" {
		return v.MerchantName
	}
	return v.Merchant
}

func (v OverviewPage) total(h status.Health) (n int64) {
	for _, p := range v.Providers {
		n += p.Connections[h]
	}
	return n
}

// classes are the outcomes of refreshes from the foot of a bar to its top. Those that are rare are left out where there
// are none.
func (v OverviewPage) classes() []status.Outcome {
	return slices.DeleteFunc(status.RefreshOutcomes(), func(o status.Outcome) bool {
		return (o == status.Lost || o == status.ClientRejected) && !slices.ContainsFunc(v.Hours, func(h HourFigures) bool { return h.Calls[o] > 0 })
	})
}

func (h HourFigures) sum() (n int64) {
	for _, calls := range h.Calls {
		n += calls
	}
	return n
}

func (v OverviewPage) anyRefresh() bool { return v.most() > 0 }

func (v OverviewPage) most() (n int64) {
	for _, h := range v.Hours {
		n = max(n, h.sum())
	}
	return n
}

func (v OverviewPage) newestFirst() []HourFigures {
	out := make([]HourFigures, 0, len(v.Hours))
	for i := len(v.Hours) - 1; i >= 0; i-- {
		out = append(out, v.Hours[i])
	}
	return out
}

// The chart's area inside its view box, in its own units.
const (
	chartLeft, chartRight = 56.0, 760.0
	chartTop, chartBottom = 10.0, 168.0
)

type chartBar struct {
	X, Width, Label string
	Parts           []chartPart
}

type chartPart struct{ Class, Y, Height string }

type chartLine struct{ Y, Label string }

// scale is the value at the chart's top: the highest bar rounded up to 1, 2 or 5 times a power of ten.
func (v OverviewPage) scale() int64 {
	top, most := int64(1), v.most()
	for {
		for _, f := range []int64{1, 2, 5} {
			if top*f >= most {
				return top * f
			}
		}
		top *= 10
	}
}

func (v OverviewPage) grid(ctx context.Context) []chartLine {
	var out []chartLine
	scale := v.scale()
	for _, part := range []int64{0, 1, 2} {
		if scale < 2 && part == 1 {
			continue
		}
		y := chartBottom - (chartBottom-chartTop)*float64(part)/2
		out = append(out, chartLine{Y: units(y), Label: short(ctx, scale*part/2)})
	}
	return out
}

func (v OverviewPage) bars(ctx context.Context) []chartBar {
	l := localeOf(ctx)
	step := (chartRight - chartLeft) / float64(max(len(v.Hours), 1))
	scale, classes := v.scale(), v.classes()
	var out []chartBar
	for i, h := range v.Hours {
		b := chartBar{X: units(chartLeft + step*float64(i)), Width: units(step * .8)}
		if hour := l.at(h.Hour).Hour(); hour%6 == 0 && i < len(v.Hours)-3 { // a label needs some room to its right
			b.Label = strconv.Itoa(hour) + ":00"
			if l.tag == "fr" {
				b.Label = strconv.Itoa(hour) + " h"
			}
		}
		y := chartBottom
		for _, class := range classes {
			n := h.Calls[class]
			if n == 0 {
				continue
			}
			height := max((chartBottom-chartTop)*float64(n)/float64(scale), 1.5) // one refusal among thousands is still seen
			y -= height
			b.Parts = append(b.Parts, chartPart{Class: string(class), Y: units(y), Height: units(height)})
		}
		out = append(out, b)
	}
	return out
}

// short writes a number in few characters: 20k, 1.5M.
func short(ctx context.Context, n int64) string {
	switch {
	case n >= 1_000_000:
		return strings.TrimSuffix(strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64), ".0") + "M"
	case n >= 10_000:
		return Number(ctx, n/1000) + "k"
	}
	return Number(ctx, n)
}

func units(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

func (m MendLine) text(ctx context.Context) string {
	if has(ctx, "mend."+m.Code) {
		return T(ctx, "mend."+m.Code, "Provider", m.Provider, "Count", int(m.Count))
	}
	return m.Provider + ": " + humanised(m.Code)
}

func (m MendLine) link() string {
	if m.URL != "" {
		return m.URL
	}
	return "/admin/providers"
}

func tookOrDash(ctx context.Context, d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return Took(ctx, d)
}

// displayName is how a person is named to others.
func displayName(u account.User) string { return cmp.Or(u.Name, u.Email) }

// facts are a live check's figures in one line.
func (c LiveCheck) facts(ctx context.Context) string {
	parts := []string{Took(ctx, c.Took)}
	if c.Skew.Abs() >= 2*time.Second {
		parts = append(parts, T(ctx, "admin_providers.skew", "Seconds", strconv.FormatFloat(c.Skew.Seconds(), 'f', 0, 64)))
	}
	return strings.Join(parts, " · ")
}

func (v KeysPage) chosen(scope string) bool {
	for _, s := range v.Form.Scopes {
		if s == scope {
			return true
		}
	}
	return false
}

func (v BulkPage) moving() bool {
	return v.State == "gathering" || v.State == "running" || v.State == "stopping"
}

// refreshing asks the script to fetch this part anew; without the script the page has a link.
func (v BulkPage) refreshing() templ.Attributes {
	if !v.moving() {
		return nil
	}
	return templ.Attributes{"data-refresh": "2"}
}

func (v BulkPage) listURL() string {
	if v.ListURL != "" {
		return v.ListURL
	}
	return "/admin/connections"
}

func (v BulkPage) minutesLeft() int { return int((v.Left + time.Minute - 1) / time.Minute) }

// zoneShown names a time zone as people do: "Phnom Penh", not "Asia/Phnom_Penh".
func zoneShown(zone string) string {
	return strings.ReplaceAll(zone[strings.LastIndex(zone, "/")+1:], "_", " ")
}

// filterValue says a filter's value as its select does.
func filterValue(ctx context.Context, f Filter) string {
	prefixes := map[string]string{
		"health": "healths.", "who": "whos.", "problem": "problems.", "environment": "environment.", "used": "used.", "class": "class.", "lapsing": "filter.within-",
	}
	if prefix, ok := prefixes[f.Key]; ok {
		return wordFor(ctx, prefix, f.Value)
	}
	if f.Key == "kind" {
		return kindText(ctx, f.Value)
	}
	if f.Key == "zone" {
		return zoneShown(f.Value)
	}
	if f.Key == "from" || f.Key == "to" {
		if at, err := time.Parse(time.RFC3339, f.Value); err == nil {
			return Exact(ctx, at)
		}
	}
	return f.Value
}

// attemptText says to staff how an attempt stands or ended: by its outcome, where its stage does not say it all.
func attemptText(ctx context.Context, stage status.Stage, end status.End) string {
	if text := wordIf(ctx, "attempt."+string(end)); text != "" {
		return text
	}
	return wordFor(ctx, "stage.", stage)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
