package db

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"patchbay/internal/pg"

	"patchbay/internal/status"
)

// Filter says which connections a list shows and in which order. What is zero filters nothing.
type Filter struct {
	Query       string // names, numbers, e-mail, a reference; words may be mistyped
	Provider    string
	Health      status.Health
	Who         status.Party // who must act
	Problem     status.Problem
	Environment string
	Merchant    pg.ID
	Used        string           // UsedDay, UsedWeek, UsedMonth or UsedNever
	Since       time.Time        // connected at or after: the beginning of a day in its own zone
	Lapsing     bool             // access that ends within seven days unless the merchant comes back, in that order
	Bulk        pg.ID            // part of these many refreshes,
	Outcome     status.Outcome   // which ended like this
	Nothing     bool             // it asks for what cannot be read: it shows nothing, rather than more than was asked for
	Sort        string           // one of the Sort codes, "-" before it reverses; "" is the latest connected first
	Providers   status.Providers // as they are now: a connection's health, problem and who must act depend on them
}

// What a list is sorted by.
const (
	SortConnected = "connected"
	SortUsed      = "used" // to the day
	SortAccount   = "account"
	SortMerchant  = "merchant"
	SortHealth    = "health" // worst first, the latest change first within it
)

// When a connection was last used, to the day.
const (
	UsedDay   = "1d"
	UsedWeek  = "7d"
	UsedMonth = "30d"
	UsedNever = "never"
)

// ParseFilter reads a filter as it stands in a list's address. Providers are left to the caller.
func ParseFilter(values url.Values) Filter {
	var broken bool
	get := func(name string) string { return cleaned(values.Get(name), &broken) }
	f := Filter{
		Query: get("q"), Provider: get("provider"), Health: status.Health(get("health")), Who: status.Party(get("who")), Problem: status.Problem(get("problem")), Environment: get("environment"),
		Lapsing: get("lapsing") != "", Outcome: status.Outcome(get("outcome")), Sort: get("sort"),
	}
	if f.Lapsing {
		f.Sort = ""
	}
	if runes := []rune(f.Query); len(runes) > 200 {
		f.Query = string(runes[:200])
	}
	if f.Used = get("used"); f.Used != "" && !slices.Contains([]string{UsedDay, UsedWeek, UsedMonth, UsedNever}, f.Used) {
		f.Used, broken = "", true
	}
	if since := get("since"); since != "" {
		var err error
		f.Since, err = time.ParseInLocation(time.DateOnly, since, zoneOf(get("zone"), &broken))
		broken = broken || err != nil
	}
	f.Merchant = idOf(get("merchant"), &broken)
	f.Bulk = idOf(get("bulk"), &broken)
	f.Nothing = broken
	return f
}

// cleaned is a value without what Postgres does not take as text. broken: nothing else was in it.
func cleaned(value string, broken *bool) string {
	text := strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(value, ""), "\x00", ""))
	*broken = *broken || text == "" && strings.TrimSpace(value) != ""
	return text
}

// zoneOf finds a time zone by its IANA name, UTC when there is none. broken: no zone is called so.
func zoneOf(name string, broken *bool) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil || zone == time.Local {
		*broken = true
		return time.UTC
	}
	return zone
}

// idOf reads an id; zero when there is none. broken: what stands there is none.
func idOf(text string, broken *bool) pg.ID {
	if text == "" {
		return pg.ID{}
	}
	id, err := pg.ParseID(text)
	if err != nil {
		*broken = true
		return pg.ID{}
	}
	return id
}

// Values are the filter as it stands in an address.
func (f Filter) Values() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{
		"q": f.Query, "provider": f.Provider, "health": string(f.Health), "who": string(f.Who), "problem": string(f.Problem), "environment": f.Environment, "used": f.Used,
		"outcome": string(f.Outcome), "sort": f.Sort,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if !f.Since.IsZero() {
		since := f.Since
		if since.Location() == time.Local { // a name that means something else elsewhere
			since = since.UTC()
		}
		values.Set("since", since.Format(time.DateOnly))
		values.Set("zone", since.Location().String())
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
