package db

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// Filter says which connections a list shows and in which order. What is zero filters nothing.
type Filter struct {
	Query       string // names, numbers, e-mail, a reference; words may be mistyped
	Provider    string
	Health      string
	Who         string // who must act: merchant, provider or platform
	Problem     string
	Environment string
	Merchant    ID
	Used        string            // UsedDay, UsedWeek, UsedMonth or UsedNever
	Since       time.Time         // connected at or after
	Lapsing     bool              // access that ends within seven days unless the merchant comes back, in that order
	Bulk        ID                // part of these many refreshes,
	Outcome     string            // which ended like this
	Sort        string            // one of the Sort codes, "-" before it reverses; "" is the latest connected first
	Present     map[string]string // each provider's present environment: connections of another one wait for the platform
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

// ParseFilter reads a filter as it stands in a list's address; what cannot be read filters nothing. Present is left to
// the caller.
func ParseFilter(values url.Values) Filter {
	get := func(name string) string {
		return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(values.Get(name), ""), "\x00", ""))
	}
	f := Filter{
		Query: get("q"), Provider: get("provider"), Health: get("health"), Who: get("who"), Problem: get("problem"), Environment: get("environment"),
		Lapsing: get("lapsing") != "", Outcome: get("outcome"), Sort: get("sort"),
	}
	if f.Lapsing {
		f.Sort = ""
	}
	if runes := []rune(f.Query); len(runes) > 200 {
		f.Query = string(runes[:200])
	}
	if used := get("used"); slices.Contains([]string{UsedDay, UsedWeek, UsedMonth, UsedNever}, used) {
		f.Used = used
	}
	if since, err := time.Parse(time.DateOnly, get("since")); err == nil {
		f.Since = since
	}
	if id, err := ParseID(get("merchant")); err == nil {
		f.Merchant = id
	}
	if id, err := ParseID(get("bulk")); err == nil {
		f.Bulk = id
	}
	return f
}

// Values are the filter as it stands in an address.
func (f Filter) Values() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{
		"q": f.Query, "provider": f.Provider, "health": f.Health, "who": f.Who, "problem": f.Problem, "environment": f.Environment, "used": f.Used,
		"outcome": f.Outcome, "sort": f.Sort,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if !f.Since.IsZero() {
		values.Set("since", f.Since.Format(time.DateOnly))
	}
	if f.Merchant != (ID{}) {
		values.Set("merchant", f.Merchant.String())
	}
	if f.Bulk != (ID{}) {
		values.Set("bulk", f.Bulk.String())
	}
	if f.Lapsing {
		values.Set("lapsing", "7d")
	}
	return values
}
