package handlers

import (
	"encoding/json"
	"net/url"
	"testing"
	"time"

	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// TestFiltersAreReadBack: from an address, and from the JSON that is stored with bulk work.
func TestFiltersAreReadBack(t *testing.T) {
	for _, f := range []search.Filter{
		{},
		{Provider: "flexiti", Health: status.Fine},
		{Party: status.PartyMerchant, Problem: status.ProblemRejected, Environment: "sandbox"},
		{Merchant: pg.NewID(), Sort: "-" + search.SortAccount},
		{Used: search.UsedNever, Query: "ស៊ីអេច 168"},
		{Lapsing: true},
		{Bulk: pg.NewID(), Outcome: status.OK},
		{Since: time.Date(2026, 11, 21, 0, 0, 0, 0, parseZone("Asia/Phnom_Penh", new(bool)))},
	} {
		again := parseFilter(FilterValues(f))
		if want, got := FilterValues(f).Encode(), FilterValues(again).Encode(); got != want || again.Nothing {
			t.Errorf("%s is read back as %s", want, got)
		}
		raw, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var stored search.Filter
		if err := json.Unmarshal(raw, &stored); err != nil {
			t.Fatal(err)
		}
		if again := parseFilter(FilterValues(stored)); again.Nothing || !again.Since.Equal(f.Since) || again.Merchant != f.Merchant || again.Query != f.Query {
			t.Errorf("%s, stored, is read back as %+v", raw, again)
		}
	}
}

// TestWhatCannotBeReadShowsNothing: a list, its CSV and a bulk from it must never be of more than was asked for.
func TestWhatCannotBeReadShowsNothing(t *testing.T) {
	read := func(query string) url.Values {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	for _, broken := range []string{"merchant=zzz", "bulk=zzz&outcome=ok", "since=banana", "since=2026-13-45", "used=99y", "q=%00", "q=%ff%fe", "provider=%00"} {
		if !parseFilter(read(broken)).Nothing {
			t.Errorf("%s shows something", broken)
		}
	}
}

// TestADayIsOneOfItsZone: also when the filter has been through an address.
func TestADayIsOneOfItsZone(t *testing.T) {
	t.Parallel()
	f := parseFilter(url.Values{"since": {"2026-11-21"}, "zone": {"Asia/Phnom_Penh"}})
	for _, since := range []time.Time{f.Since, parseFilter(FilterValues(f)).Since} {
		if !since.Equal(time.Date(2026, 11, 20, 17, 0, 0, 0, time.UTC)) {
			t.Errorf("since %s", since)
		}
	}
}
