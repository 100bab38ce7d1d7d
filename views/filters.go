package views

import (
	"context"
	"strings"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/text"
)

// labelled adds the labels that options lack: the words under prefix, "any" for the empty value.
func labelled(ctx context.Context, prefix string, options []Option) []Option {
	out := make([]Option, len(options))
	for i, o := range options {
		switch {
		case o.Label != "":
			o.Label = text.Isolated(o.Label)
		case o.Value == "":
			o.Label = T(ctx, "filter.any")
		default:
			o.Label = wordFor(ctx, prefix, o.Value)
		}
		out[i] = o
	}
	return out
}

// kindOptions adds the labels of kinds of events.
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

func roleOptions(ctx context.Context, chosen audit.Role) []Option {
	var out []Option
	for _, r := range []audit.Role{audit.RoleMerchant, audit.RoleSupport, audit.RoleAdmin} {
		out = append(out, Option{Value: string(r), Label: wordFor(ctx, "role.", r), Selected: r == chosen})
	}
	return out
}

// found says how many connections the list has, as far as that is known without counting all.
func (v AdminConnectionsPage) found(ctx context.Context) string {
	switch {
	case v.About >= 0 && v.About > int64(v.Shown):
		return T(ctx, "admin_connections.shown-of", "Shown", count(ctx, v.Shown), "About", Number(ctx, v.About))
	case v.Pager.Next != "" || v.Pager.Prev != "":
		return shownSome(ctx, v.Shown, v.Length)
	}
	return T(ctx, "admin_connections.shown", "Count", v.Shown)
}

// shownSome says how many rows this page of a longer list has. most is the length of a full page.
func shownSome(ctx context.Context, shown, most int) string {
	return T(ctx, "admin_connections.shown-some", "Shown", count(ctx, shown), "Most", count(ctx, max(shown, most)))
}

// found says how many events the list has, or that there are more than a page.
func (v EventsPage) found(ctx context.Context) string {
	if v.Pager.Next != "" || v.Pager.Prev != "" {
		return shownSome(ctx, len(v.Rows), v.Length)
	}
	return T(ctx, "admin_events.shown", "Count", len(v.Rows))
}

// filters counts the filters that are set, without the search box. With any they are not folded on a wide screen.
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

// filters counts the filters that are set.
func (v EventsPage) filters() (set int) {
	for _, options := range [][]Option{v.Kinds, v.Outcomes, v.Providers} {
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

// filtersSummary returns the label of folded filters, with how many are set.
func filtersSummary(ctx context.Context, set int) string {
	if set == 0 {
		return T(ctx, "filter.more")
	}
	return T(ctx, "filter.more") + " (" + count(ctx, set) + ")"
}

func (v AdminConnectionsPage) merchantShown() string {
	if v.MerchantName != "" {
		return text.Isolated(v.MerchantName)
	}
	return text.Isolated(v.Merchant)
}

// zoneShown returns the place in a time zone's name: "Phnom Penh" for "Asia/Phnom_Penh".
func zoneShown(zone string) string {
	return strings.ReplaceAll(zone[strings.LastIndex(zone, "/")+1:], "_", " ")
}

// filterValue returns a filter's value in words, as its select has them.
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
