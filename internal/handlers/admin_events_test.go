package handlers

import (
	"net/url"
	"testing"
	"time"

	"patchbay/internal/audit"
)

// TestADayOfEventsIsOneOfItsZone: also when the filter has been through an address.
func TestADayOfEventsIsOneOfItsZone(t *testing.T) {
	t.Parallel()
	// Where the clocks went forward that day, it had 23 hours.
	f := parseEventFilter(url.Values{"from": {"2026-03-29"}, "to": {"2026-03-29"}, "zone": {"Europe/Amsterdam"}})
	for _, f := range []audit.Filter{f, parseEventFilter(eventValues(f))} {
		if !f.From.Equal(time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC)) || f.To.Sub(f.From) != 23*time.Hour {
			t.Errorf("from %s to %s", f.From, f.To)
		}
	}
}

func TestAnUnreadableFilterOfEventsShowsNothing(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{"merchant=zzz", "actor=zzz", "connection=zzz", "from=banana", "to=9999-99-99", "kind=%00", "merchant=%00"} {
		values, err := url.ParseQuery(broken)
		if err != nil {
			t.Fatal(err)
		}
		if f := parseEventFilter(values); !f.Nothing {
			t.Errorf("%s is read as %+v", broken, f)
		}
	}
}
