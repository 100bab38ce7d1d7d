package handlers

import (
	"net/url"
	"slices"
	"time"

	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// parseFilter reads a filter from a list's query. The caller sets Providers.
func parseFilter(values url.Values) search.Filter {
	var broken bool
	get := func(name string) string { return cleanFilterText(values.Get(name), &broken) }
	f := search.Filter{
		Query: get("q"), Provider: get("provider"), Health: status.Health(get("health")), Party: status.Party(get("who")), Problem: status.Problem(get("problem")), Environment: get("environment"),
		Lapsing: get("lapsing") != "", Outcome: status.Outcome(get("outcome")), Sort: get("sort"),
	}
	if f.Lapsing {
		f.Sort = ""
	}
	if runes := []rune(f.Query); len(runes) > 200 {
		f.Query = string(runes[:200])
	}
	if f.Used = get("used"); f.Used != "" && !slices.Contains([]string{search.UsedDay, search.UsedWeek, search.UsedMonth, search.UsedNever}, f.Used) {
		f.Used, broken = "", true
	}
	if since := get("since"); since != "" {
		f.Since, _ = parseMoment(since, parseZone(get("zone"), &broken), &broken)
	}
	f.Merchant = parseOptionalID(get("merchant"), &broken)
	f.Bulk = parseOptionalID(get("bulk"), &broken)
	f.Nothing = broken
	return f
}

// FilterValues returns a filter as a query.
func FilterValues(f search.Filter) url.Values {
	values := url.Values{}
	for name, value := range map[string]string{
		"q": f.Query, "provider": f.Provider, "health": string(f.Health), "who": string(f.Party), "problem": string(f.Problem), "environment": f.Environment, "used": f.Used,
		"outcome": string(f.Outcome), "sort": f.Sort,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if !f.Since.IsZero() {
		zone := f.Since.Location().String()
		if midnight := f.Since.Format("15:04:05.999") == "00:00:00"; midnight && f.Since.Location() != time.Local && zone != "" {
			values.Set("since", f.Since.Format(time.DateOnly))
			values.Set("zone", zone)
		} else { // as read back from a bulk: the name of its zone is not stored
			values.Set("since", f.Since.UTC().Format(time.RFC3339))
		}
	}
	if f.Merchant != (pg.ID{}) {
		values.Set("merchant", f.Merchant.String())
	}
	if f.Bulk != (pg.ID{}) {
		values.Set("bulk", f.Bulk.String())
	}
	if f.Lapsing {
		values.Set("lapsing", "7d")
	}
	return values
}
