package audit_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sample"
	"patchbay/internal/status"
)

// shop makes a merchant, its user and its connection, and returns their ids.
func shop(t *testing.T, d *db.DB) (merchant, user, connection pg.ID) {
	t.Helper()
	ctx := context.Background()
	u := dbtest.User(t, d, audit.RoleMerchant, "sokha@shop.example", "", "Shop")
	g := connectors.Grant{Token: connectors.Token{Access: "made up"}, Account: connectors.Account{ID: "KHUID1", Name: "CH168"}}
	c, err := d.AddConnection(ctx, u.MerchantID, "caminvoice", "sandbox", g, d.Now(), connectors.Info{KeepAlive: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return u.MerchantID, u.ID, c
}

func TestEventsAreFilteredAndPaged(t *testing.T) {
	ctx := context.Background()
	d := dbtest.New(t)
	if _, err := d.Pool.Exec(ctx, `SELECT events_make_month((now() - make_interval(months => m))::date) FROM generate_series(0, 12) AS m`); err != nil {
		t.Fatal(err)
	}
	shop, user, c := shop(t, d)
	start := d.Now().AddDate(0, -11, 0)
	for i := range 120 { // over eleven months, in twelve partitions
		e := audit.Event{At: start.Add(time.Duration(i) * 66 * time.Hour), Kind: status.RefreshSaved, Outcome: status.OK, Provider: "caminvoice", MerchantID: shop, ConnectionID: c}
		switch i % 4 {
		case 1:
			e.Kind, e.Outcome = status.RefreshTemporary, status.Temporary
		case 2:
			e = audit.Event{At: e.At, Kind: status.ConnectionViewed, Actor: audit.Actor{Role: audit.RoleMerchant, ID: user}, MerchantID: shop, ConnectionID: c}
		case 3:
			e = audit.Event{At: e.At, Kind: status.UserSignedIn, Actor: audit.Actor{Role: audit.RoleMerchant, ID: user}, MerchantID: shop}
		}
		if err := d.Audit.Record(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []struct {
		name string
		f    audit.Filter
		want int
	}{
		{"what people did", audit.Filter{To: d.Now()}, 60 + 3}, // the merchant, its user and its connection were added
		{"renewals", audit.Filter{Kind: audit.Refreshes}, 60},
		{"one kind", audit.Filter{Kind: status.ConnectionViewed}, 30},
		{"one kind of renewal", audit.Filter{Kind: status.RefreshTemporary}, 30},
		{"trouble", audit.Filter{Outcome: status.Temporary}, 30},
		{"of a connection", audit.Filter{Connections: []pg.ID{c}}, 90 + 1},
		{"of a person", audit.Filter{Actors: []pg.ID{user}}, 60},
		{"of a merchant", audit.Filter{Merchants: []pg.ID{shop}, Kind: status.UserSignedIn}, 30},
		{"of a provider", audit.Filter{Provider: "caminvoice", Kind: audit.Refreshes, Outcome: status.OK}, 30},
		{"of some months", audit.Filter{Kind: audit.Refreshes, From: start, To: start.Add(40 * 66 * time.Hour)}, 20},
		{"without look-ups", audit.Filter{NoViews: true}, 30 + 3},
		{"look-ups, asked for", audit.Filter{NoViews: true, Kind: status.ConnectionViewed}, 30},
		{"of nobody", audit.Filter{Actors: []pg.ID{pg.NewID()}}, 0},
	} {
		var all []pg.ID
		last := time.Time{}
		err := d.Audit.Each(ctx, one.f, func(e audit.Line) error {
			if !last.IsZero() && e.At.After(last) {
				t.Errorf("%s: not the newest first", one.name)
			}
			last = e.At
			all = append(all, e.ID)
			return nil
		})
		if err != nil || len(all) != one.want {
			t.Errorf("%s: %d, not %d, %v", one.name, len(all), one.want, err)
		}
		var forwards, backwards []pg.ID
		var page pg.Page[audit.Line]
		for cursor := ""; ; cursor = page.Next {
			if page, err = d.Audit.List(ctx, one.f, cursor, 7); err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Rows {
				forwards = append(forwards, e.ID)
			}
			if page.Next == "" {
				break
			}
		}
		for {
			var ids []pg.ID
			for _, e := range page.Rows {
				ids = append(ids, e.ID)
			}
			if backwards = append(ids, backwards...); page.Prev == "" {
				break
			}
			if page, err = d.Audit.List(ctx, one.f, page.Prev, 7); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(all, forwards) || !slices.Equal(all, backwards) {
			t.Errorf("%s: %d at once, %d forwards, %d backwards", one.name, len(all), len(forwards), len(backwards))
		}
	}
	page, err := d.Audit.List(ctx, audit.Filter{Connections: []pg.ID{c}}, "", 3)
	if err != nil || page.Rows[0].MerchantName != "Shop" || page.Rows[0].AccountName != "CH168" {
		t.Errorf("not named: %+v, %v", page.Rows[0], err)
	}
	kinds, err := d.Audit.Kinds(ctx)
	if err != nil || !slices.Contains(kinds, status.UserSignedIn) || slices.Contains(kinds, status.RefreshSaved) || !slices.IsSorted(kinds) {
		t.Errorf("kinds: %v, %v", kinds, err)
	}
	if ids, err := d.Audit.ActorsNamed(ctx, "SOKHA@"); err != nil || !slices.Equal(ids, []pg.ID{user}) {
		t.Errorf("actors: %v, %v", ids, err)
	}
}

func TestATimelineLeavesOutNothingOfOneMoment(t *testing.T) {
	ctx := context.Background()
	d := dbtest.New(t)
	_, _, c := shop(t, d)
	at := d.Now().Add(-time.Minute)
	for range 5 {
		for _, kind := range []status.Kind{status.ConnectionNamed, status.ConnectionViewed} {
			if err := d.Audit.Record(ctx, audit.Event{At: at, Kind: kind, ConnectionID: c}); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := map[pg.ID]bool{}
	cursor := ""
	for range 3 {
		page, err := d.Audit.Timeline(ctx, c, cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Rows {
			if seen[e.ID] = true; e.Kind == status.ConnectionViewed {
				t.Error("that staff looked is among what happened")
			}
		}
		cursor = page.Next
	}
	if len(seen) != 5+1 || cursor != "" { // the connection was added
		t.Errorf("%d events, want 5 of one moment, and then %q", len(seen)-1, cursor)
	}
}

func TestPlansKeepToIndexes(t *testing.T) {
	ctx := context.Background()
	d := dbtest.New(t)
	if err := sample.Fill(ctx, d, sample.Scale{Connections: 12_000, Events: 2}); err != nil {
		t.Fatal(err)
	}
	var merchant, connection pg.ID
	if err := d.Pool.QueryRow(ctx, `SELECT id, merchant_id FROM connections ORDER BY connected_at DESC, id DESC LIMIT 1`).Scan(&connection, &merchant); err != nil {
		t.Fatal(err)
	}
	for _, f := range []audit.Filter{
		{},
		{Kind: audit.Refreshes},
		{Kind: status.RefreshRejected},
		{Outcome: status.Rejected},
		{Outcome: status.Temporary, Provider: "elecq", Kind: audit.Refreshes},
		{Kind: status.UserSignedIn},
		{Connections: []pg.ID{connection}},
		{Merchants: []pg.ID{merchant}},
		{Actors: []pg.ID{pg.NewID()}},
		{Provider: "flexiti", Kind: audit.Refreshes},
	} {
		plan, err := d.Audit.Explain(ctx, f)
		if err != nil {
			t.Errorf("events %+v: %v", f, err)
		}
		for line := range strings.Lines(plan) {
			if strings.Contains(line, "Seq Scan") && !strings.Contains(line, "cost=0.00..0.00 ") { // an empty partition costs nothing
				t.Errorf("events %+v are read without an index:\n%s", f, plan)
			}
			var removed int
			if _, rest, ok := strings.Cut(line, "Rows Removed by Filter: "); ok {
				fmt.Sscan(rest, &removed)
			}
			if removed > 3000 {
				t.Errorf("events %+v looks at %d rows in vain:\n%s", f, removed, plan)
			}
		}
	}
}

// TestMonthsAhead: a month that is missing is known before it begins.
func TestMonthsAhead(t *testing.T) {
	for _, c := range []struct {
		at   string
		want int
	}{
		{"2030-01-01T00:00:00Z", 3}, {"2030-01-31T23:59:59Z", 3}, {"2030-02-28T23:59:59Z", 2}, {"2030-03-01T00:00:00Z", 1}, {"2030-04-30T23:59:59Z", 0}, {"2029-12-31T23:59:59Z", 3}, {"2029-06-30T12:00:00Z", 0},
	} {
		clock := dbtest.NewClock(time.Date(2030, 1, 15, 0, 0, 0, 0, time.UTC))
		d := dbtest.New(t, pg.Options{Clock: clock.Clock})
		if err := d.Audit.MakeMonths(t.Context()); err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		clock.Set(at)
		if got, err := d.Audit.MonthsAhead(t.Context()); err != nil || got != c.want {
			t.Errorf("%s: %d, want %d: %v", c.at, got, c.want, err)
		}
	}
	d := dbtest.New(t)
	if err := d.Audit.MakeMonths(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := time.Now().UTC().AddDate(0, 0, 1-time.Now().UTC().Day()).AddDate(0, 1, 0)
	if _, err := d.Pool.Exec(t.Context(), `DROP TABLE events_`+next.Format("2006_01")); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Audit.MonthsAhead(t.Context()); err != nil || got != 0 {
		t.Errorf("with a gap: %d, %v", got, err)
	}
}

// TestAMonthThatIsNotAttachedIsMadeAgain has each state in which a table of a month's name takes no events, or may.
func TestAMonthThatIsNotAttachedIsMadeAgain(t *testing.T) {
	ctx := t.Context()
	now := time.Date(2030, 1, 15, 0, 0, 0, 0, time.UTC)
	clock := dbtest.NewClock(now)
	for name, c := range map[string]struct {
		before     string
		ahead      int  // before it is made again
		impossible bool // to make it
	}{
		"all are attached":                            {`SELECT`, 3, false},
		"the next was detached":                       {`ALTER TABLE events DETACH PARTITION events_2030_02`, 0, false},
		"the one after was detached":                  {`ALTER TABLE events DETACH PARTITION events_2030_03`, 1, false},
		"the next was dropped":                        {`DROP TABLE events_2030_02`, 0, false},
		"the next is another table, of its columns":   {`DROP TABLE events_2030_02; CREATE TABLE events_2030_02 (LIKE events INCLUDING DEFAULTS)`, 0, false},
		"the next is another table, of other columns": {`DROP TABLE events_2030_02; CREATE TABLE events_2030_02 (n integer)`, 0, true},
		"the next is a view":                          {`DROP TABLE events_2030_02; CREATE VIEW events_2030_02 AS SELECT 1 AS n`, 0, true},
		"the next was detached and holds another's":   {`ALTER TABLE events DETACH PARTITION events_2030_02; INSERT INTO events_2030_02 (id, at, kind) VALUES (gen_random_uuid(), '2031-01-01Z', 'merchant.added')`, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := dbtest.New(t, pg.Options{Clock: clock.Clock})
			if err := d.Audit.MakeMonths(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Pool.Exec(ctx, `INSERT INTO events (id, at, kind) VALUES (gen_random_uuid(), '2030-02-10Z', 'merchant.added')`); err != nil {
				t.Fatal(err)
			}
			kept := !strings.Contains(c.before, "DROP")
			for statement := range strings.SplitSeq(c.before, "; ") {
				if _, err := d.Pool.Exec(ctx, statement); err != nil {
					t.Fatal(statement, err)
				}
			}
			if got, err := d.Audit.MonthsAhead(ctx); err != nil || got != c.ahead {
				t.Errorf("%d months are ahead, want %d: %v", got, c.ahead, err)
			}
			var group sync.WaitGroup
			for range 4 { // as many processes do
				group.Go(func() {
					if err := d.Audit.MakeMonths(ctx); (err != nil) != c.impossible {
						t.Errorf("made again: %v", err)
					}
				})
			}
			dbtest.Wait(t, &group, "the writers")
			if c.impossible {
				if got, err := d.Audit.MonthsAhead(ctx); err != nil || got != 0 {
					t.Errorf("%d months are ahead of one that cannot be made: %v", got, err)
				}
				return
			}
			if got, err := d.Audit.MonthsAhead(ctx); err != nil || got != 3 {
				t.Errorf("%d months are ahead once they are made: %v", got, err)
			}
			for _, month := range []string{"2030-02-11Z", "2030-03-11Z", "2030-04-11Z"} {
				if _, err := d.Pool.Exec(ctx, `INSERT INTO events (id, at, kind) VALUES (gen_random_uuid(), $1::text::timestamptz, 'merchant.added')`, month); err != nil {
					t.Errorf("an event of %s: %v", month, err)
				}
			}
			var before int
			if err := d.Pool.QueryRow(ctx, `SELECT count(*) FROM events WHERE at = '2030-02-10Z'`).Scan(&before); err != nil || (before == 1) != kept {
				t.Errorf("%d events of before, %v", before, err)
			}
			for _, refused := range []string{`TRUNCATE events_2030_02`, `DELETE FROM events_2030_02`, `UPDATE events_2030_03 SET note = ''`} {
				if _, err := d.Pool.Exec(ctx, refused); err == nil {
					t.Errorf("%s was allowed", refused)
				}
			}
		})
	}
}
