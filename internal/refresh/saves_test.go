package refresh_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
)

// TestTrySave breaks the database in each way that would lose a grant, and looks for rows that a trial leaves behind.
func TestTrySave(t *testing.T) {
	database := dbtest.Make(t)
	d := database.Open(t, pg.Options{})
	modes := map[string]*db.DB{}
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec"} {
		u, err := url.Parse(database.URL)
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		query.Set("default_query_exec_mode", mode)
		u.RawQuery = query.Encode()
		modes[mode] = dbtest.Database{URL: u.String(), Keyset: database.Keyset}.Open(t) // which notes when, by the second
	}
	before := dbtest.Dump(t, d)
	for mode, d := range modes {
		if err := refresh.TrySave(t.Context(), d); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if dbtest.Dump(t, d) != before {
		t.Error("a trial leaves rows behind")
	}
	var month string
	if err := d.Pool.QueryRow(t.Context(), `SELECT relid::text FROM pg_partition_tree('events') WHERE isleaf ORDER BY relid::text = 'events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM') DESC LIMIT 1`).Scan(&month); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ do, undo, says string }{
		"a full disk, as far as events go": {`ALTER TABLE events ADD CONSTRAINT disk_full CHECK (at < '2000-01-01') NOT VALID`, `ALTER TABLE events DROP CONSTRAINT disk_full`, "disk_full"},
		"a month without its table":        {`ALTER TABLE events DETACH PARTITION ` + month, `ALTER TABLE events ATTACH PARTITION ` + month + ` %s`, "partition"},
		"a column that is gone":            {`ALTER TABLE grants RENAME COLUMN saved_by TO other`, `ALTER TABLE grants RENAME COLUMN other TO saved_by`, "saved_by"},
		"a trigger that fails":             {`ALTER TABLE connection_counts RENAME TO other`, `ALTER TABLE other RENAME TO connection_counts`, "connection_counts"},
		"saves that change nothing": {
			`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER nothing BEFORE UPDATE ON grants FOR EACH ROW EXECUTE FUNCTION nothing()`,
			`DROP FUNCTION nothing CASCADE`, "found no grant",
		},
	} {
		undo := c.undo
		if strings.Contains(undo, "%s") {
			var bounds string
			if err := d.Pool.QueryRow(t.Context(), `SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = $1::text::regclass`, month).Scan(&bounds); err != nil {
				t.Fatal(err)
			}
			undo = fmt.Sprintf(undo, bounds)
		}
		if _, err := d.Pool.Exec(t.Context(), c.do); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := refresh.TrySave(t.Context(), database.Open(t)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if _, err := d.Pool.Exec(t.Context(), undo); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := refresh.TrySave(t.Context(), database.Open(t)); err != nil {
		t.Errorf("with all as it was: %v", err)
	}
}
