package pg_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

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
