package pg_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// TestConnectionsStartWithWhatPoolersKnow holds a connection's start to the parameters that pgbouncer takes.
func TestConnectionsStartWithWhatPoolersKnow(t *testing.T) {
	d := dbtest.New(t)
	for name := range d.Pool.Config().ConnConfig.RuntimeParams {
		if !slices.Contains([]string{"timezone", "application_name", "client_encoding", "datestyle", "standard_conforming_strings"}, name) {
			t.Errorf("pgbouncer refuses %s", name)
		}
	}
	var jit string
	if err := d.Pool.QueryRow(t.Context(), `SHOW jit`).Scan(&jit); err != nil || jit != "off" {
		t.Errorf("jit is %q, %v", jit, err)
	}
}

func TestZeroIsNull(t *testing.T) {
	ctx := context.Background()
	d := dbtest.New(t)
	id, at := pg.NewID(), time.Date(2026, 7, 1, 12, 0, 0, 0, time.FixedZone("ICT", 7*3600))
	for _, c := range []struct {
		name string
		id   pg.ID
		at   time.Time
		null bool
	}{
		{"zero", pg.ID{}, time.Time{}, true},
		{"not zero", id, at, false},
	} {
		var idNull, atNull, idsNull, atsNull bool
		gotID, gotAt := pg.NewID(), time.Now() // what a NULL must overwrite
		err := d.Pool.QueryRow(ctx, `SELECT $1::uuid IS NULL, $2::timestamptz IS NULL, ($3::uuid[])[1] IS NULL, ($4::timestamptz[])[1] IS NULL, $1::uuid, $2::timestamptz`,
			c.id, c.at, []pg.ID{c.id}, pgtype.FlatArray[time.Time]{c.at}).Scan(&idNull, &atNull, &idsNull, &atsNull, &gotID, &gotAt)
		if err != nil {
			t.Fatal(err)
		}
		if idNull != c.null || atNull != c.null || idsNull != c.null || atsNull != c.null {
			t.Errorf("%s: NULL = %v, %v, %v, %v", c.name, idNull, atNull, idsNull, atsNull)
		}
		if gotID != c.id || !gotAt.Equal(c.at) || gotAt.Location() != time.UTC {
			t.Errorf("%s: read as %v, %v", c.name, gotID, gotAt)
		}
	}
}
