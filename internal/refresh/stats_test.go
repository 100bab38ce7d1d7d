package refresh_test

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

func TestHourlyStatsAreSummed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := refresh.New(refresh.Options{DB: dbtest.New(t)})
	hour := e.DB.Now().Truncate(time.Hour)
	if err := e.AddStats(ctx, []refresh.HourlyStat{
		{Provider: "a", Environment: "sandbox", Hour: hour, Kind: "refresh", Outcome: status.OK, Bucket: 1, Calls: 3},
		{Provider: "b", Environment: "sandbox", Hour: hour, Kind: "refresh", Outcome: status.OK, Bucket: 2, Calls: 4},
		{Provider: "a", Environment: "sandbox", Hour: hour.Add(-time.Hour), Kind: "refresh", Outcome: status.OK, Bucket: 1, Calls: 5},
		{Provider: "a", Environment: "sandbox", Hour: hour, Kind: "refresh", Outcome: status.Temporary, Bucket: 1, Calls: 1},
		{Provider: "a", Environment: "sandbox", Hour: hour, Kind: "connect", Outcome: status.OK, Bucket: 1, Calls: 100},
		{Provider: "a", Environment: "sandbox", Hour: hour.Add(-50 * time.Hour), Kind: "refresh", Outcome: status.OK, Bucket: 1, Calls: 100},
	}); err != nil {
		t.Fatal(err)
	}
	hours, err := e.Hours(ctx, hour.Add(-47*time.Hour))
	if err != nil || len(hours) != 3 || hours[0].Calls != 5 || hours[1].Calls != 7 || hours[2].Outcome != status.Temporary {
		t.Errorf("by hour: %+v, %v", hours, err)
	}
	lately, err := e.Latencies(ctx, hour.Add(-24*time.Hour))
	slices.SortFunc(lately, func(a, b refresh.HourlyStat) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Outcome, b.Outcome))
	})
	if err != nil || len(lately) != 3 || lately[0].Calls != 8 || lately[2].Provider != "b" {
		t.Errorf("latencies: %+v, %v", lately, err)
	}
}
