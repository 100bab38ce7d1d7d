package db_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// TestSQLSaysOfAConnectionWhatStatusSays runs every combination of what is stored of a connection and of what its provider is
// now through status.Of and through what SQL repeats of it: connection_health, the columns state and health_order, the counters,
// and the list's filters.
func TestSQLSaysOfAConnectionWhatStatusSays(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	ctx := t.Context()
	shop, now := dbtest.Merchant(t, d, "Shop").ID, d.Now().Truncate(time.Second)
	times := func(agos ...time.Duration) []time.Time {
		all := []time.Time{{}}
		for _, ago := range agos {
			all = append(all, now.Add(-ago))
		}
		return all
	}
	null := func(at time.Time) any {
		if at.IsZero() {
			return nil
		}
		return at
	}
	providers := status.Providers{
		"present":   {SetUp: true, Environment: "sandbox"},
		"moved":     {SetUp: true, Environment: "production"},
		"unset":     {Environment: "sandbox"},
		"suspected": {SetUp: true, Environment: "sandbox", Incident: status.ReasonClientRejected},
		"failing":   {SetUp: true, Environment: "sandbox", Incident: status.ReasonTemporary},
		"typed":     {SetUp: true, Environment: "sandbox", Credentials: true},
	}
	names := []string{"present", "moved", "unset", "suspected", "failing", "typed", "gone"} // gone is not among the providers
	want := map[pg.ID]status.Status{}
	counts := map[string]int64{}
	for _, provider := range names {
		for _, problem := range append([]status.Problem{""}, status.StoredProblems()...) {
			for _, failing := range times(3 * time.Hour) {
				for _, disconnected := range times(time.Hour) {
					for _, ends := range times(-40 * time.Hour) {
						id := dbtest.Connection(t, d, shop, provider, fmt.Sprint(len(want)), "")
						var since any
						if problem != "" {
							since = now.Add(-2 * time.Hour)
						}
						run(t, d, `UPDATE connections SET problem = $2, problem_since = $3, failing_since = $4, disconnected_at = $5 WHERE id = $1`,
							id, problem, since, null(failing), null(disconnected))
						run(t, d, `UPDATE grants SET refresh_expiry_fixed = $2, refresh_expires_at = $3 WHERE connection_id = $1`, id, !ends.IsZero(), null(ends))

						c, err := d.ConnectionDetail(ctx, id, pg.ID{})
						if err != nil {
							t.Fatal(err)
						}
						name := fmt.Sprintf("%s, problem %q, failing %t, disconnected %t", provider, problem, !failing.IsZero(), !disconnected.IsZero())
						row := c.Row()
						if c.Problem != problem || !row.FailingSince.Equal(failing) || !row.DisconnectedAt.Equal(disconnected) || !row.AccessEnds.Equal(ends) {
							t.Errorf("%s: read as %+v", name, row)
						}
						var health status.Health
						var state string
						var order int64
						if err := d.Pool.QueryRow(ctx, `SELECT connection_health(state), state, health_order FROM connections WHERE id = $1`, id).
							Scan(&health, &state, &order); err != nil {
							t.Fatal(err)
						}
						stored := status.Of(row, status.Provider{SetUp: true, Environment: "sandbox"})
						if health != stored.Health || status.HealthOf(state) != stored.Health || !slices.Contains(status.States(), state) {
							t.Errorf("%s: connection_health %s, state %s, want %s", name, health, state, stored.Health)
						}
						at := stored.Since
						if at.IsZero() {
							at = c.ConnectedAt
						}
						first, end := stored.Health.Orders()
						if want := stored.Health.Order(at.Round(time.Second)); order != want || order < first || order >= end {
							t.Errorf("%s: health_order %d, want %d, from %d to %d", name, order, want, first, end)
						}
						how := status.Of(row, providers[provider])
						of := status.Of(status.RowOf("sandbox", state), providers[provider])
						if of.Health != how.Health || of.Problem != how.Problem || of.Party != how.Party {
							t.Errorf("%s: a row in state %s is %+v, want %+v", name, state, of, how)
						}
						want[id] = how
						counts[provider+" "+string(stored.Health)]++
					}
				}
			}
		}
	}
	for _, f := range filtersOfStatus() {
		f.Providers = providers
		shown := map[pg.ID]bool{}
		if err := d.EachConnection(ctx, f, nil, func(r db.ConnectionRow) error { shown[r.ID] = true; return nil }); err != nil {
			t.Fatal(err)
		}
		for id, how := range want {
			is := (f.Health == "" || f.Health == how.Health) && (f.Party == "" || f.Party == how.Party) && (f.Problem == "" || f.Problem == how.Problem) &&
				(!f.Lapsing || !how.ReconnectBy.IsZero())
			if is != shown[id] {
				t.Errorf("%+v: shown %t, and it is %+v", f, shown[id], how)
			}
		}
	}
	waiting, err := d.WaitingForPlatform(ctx, providers)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range providers {
		shown := int64(0)
		f := search.Filter{Provider: name, Environment: p.Environment, Party: status.PartyPlatform, Providers: providers}
		if err := d.EachConnection(ctx, f, nil, func(db.ConnectionRow) error { shown++; return nil }); err != nil {
			t.Fatal(err)
		}
		if waiting[name] != shown {
			t.Errorf("%s: %d wait for the platform, and the list shows %d", name, waiting[name], shown)
		}
	}
	counted, err := d.Counts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counted {
		if key := c.Provider + " " + string(c.Health); counts[key] != c.Connections {
			t.Errorf("%s: %d counted, want %d", key, c.Connections, counts[key])
		}
		delete(counts, c.Provider+" "+string(c.Health))
	}
	if len(counts) > 0 {
		t.Errorf("not counted: %v", counts)
	}
}

// filtersOfStatus are a list's filters by each health, party and problem, and by access that ends.
func filtersOfStatus() []search.Filter {
	all := []search.Filter{{Lapsing: true}}
	for _, h := range status.Healths() {
		all = append(all, search.Filter{Health: h})
	}
	for _, p := range status.Parties() {
		all = append(all, search.Filter{Party: p})
	}
	for _, p := range status.Problems() {
		all = append(all, search.Filter{Problem: p})
	}
	return all
}

// TestAFlowWhoseTimeIsOverHasEnded runs every stage, each in time and too late, through a read and through ExpireFlows, which must
// agree.
func TestAFlowWhoseTimeIsOverHasEnded(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	ctx := context.Background()
	u := someone(t, d, "shop")
	for _, test := range []struct {
		stage, late status.Stage
		end         status.End
	}{
		{status.StageBegun, status.StageExpired, status.EndExpired},
		{status.StageAnswered, status.StageExpired, status.EndExpired},
		{status.StageExchanging, status.StageFailed, status.EndInterrupted},
		{status.StageChoosing, status.StageExpired, status.EndExpired},
		{status.StageConfirming, status.StageExpired, status.EndUnconfirmed},
		{status.StageConnected, status.StageConnected, ""},
		{status.StageDenied, status.StageDenied, ""},
		{status.StageExpired, status.StageExpired, ""},
		{status.StageFailed, status.StageFailed, ""},
	} {
		for _, late := range []bool{false, true} {
			for _, swept := range []bool{false, true} {
				f, err := d.BeginFlow(ctx, db.NewFlow{
					ID: pg.NewID(), UserID: u.ID, MerchantID: u.MerchantID, Provider: "acme", Environment: "sandbox", State: pg.NewSecret(), Browser: pg.NewSecret(), By: audit.System,
				})
				if err != nil {
					t.Fatal(err)
				}
				ago := 0 * time.Second
				if late {
					ago = time.Hour
				}
				_, err = d.Pool.Exec(ctx, `UPDATE flows SET stage = $2, touched_at = touched_at - $3::interval, expires_at = expires_at - $3::interval,
					sealed = CASE WHEN $2 IN ('connected', 'denied', 'expired', 'failed') THEN NULL ELSE sealed END WHERE id = $1`, f.ID, test.stage, ago)
				if err != nil {
					t.Fatal(err)
				}
				if swept {
					if _, err := d.ExpireFlows(ctx, f.ID); err != nil {
						t.Fatal(err)
					}
				}
				got, err := d.FlowByID(ctx, f.ID)
				if err != nil {
					t.Fatal(err)
				}
				stage, end := test.stage, status.End("")
				if late {
					stage, end = test.late, test.end
				}
				if got.Stage != stage || got.Outcome != end {
					t.Errorf("%s, late %t, swept %t: %s %q, want %s %q", test.stage, late, swept, got.Stage, got.Outcome, stage, end)
				}
			}
		}
	}
}
