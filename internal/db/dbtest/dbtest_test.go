package dbtest_test

import (
	"context"
	"errors"
	"testing"

	"patchbay/internal/db/dbtest"
	"patchbay/migrations"
)

func TestEveryTestHasItsOwnDatabase(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"one", "other"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := dbtest.New(t)
			var merchants int
			if err := d.Pool.QueryRow(ctx, `SELECT count(*) FROM merchants`).Scan(&merchants); err != nil {
				t.Fatal(err)
			}
			if merchants != 0 {
				t.Errorf("a fresh database has %d merchants", merchants)
			}
			if _, err := d.Pool.Exec(ctx, `INSERT INTO merchants (id, name, created_at) VALUES (gen_random_uuid(), 'ហាង', now())`); err != nil {
				t.Fatal(err)
			}
			if pending, err := migrations.Pending(ctx, d.Pool); err != nil || pending {
				t.Errorf("pending = %v, %v on a migrated database", pending, err)
			}
		})
	}
}

func TestMigratingAMigratedDatabaseDoesNothing(t *testing.T) {
	d := dbtest.Make(t)
	applied, err := migrations.Up(context.Background(), d.URL)
	if err != nil || applied != 0 {
		t.Fatalf("applied %d, %v", applied, err)
	}
}

// TestDownToTheFirstSchemaAndUpAgain: what can be taken back is, and is applied again.
func TestDownToTheFirstSchemaAndUpAgain(t *testing.T) {
	ctx := context.Background()
	d := dbtest.Make(t)
	down := 0
	for {
		_, err := migrations.Down(ctx, d.URL)
		if errors.Is(err, migrations.ErrKept) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if down++; down > migrations.Newest() {
			t.Fatal("it goes down for ever")
		}
	}
	if down == 0 {
		t.Error("nothing was taken back")
	}
	if _, err := migrations.Up(ctx, d.URL); err != nil {
		t.Fatal(err)
	}
	all, err := migrations.Status(ctx, d.URL)
	if err != nil || len(all) == 0 {
		t.Fatalf("status: %v, %v", all, err)
	}
	for _, m := range all {
		if !m.Applied {
			t.Errorf("%s is not applied", m.Name)
		}
	}
}

func TestAnOwnClusterComesBackAfterACrash(t *testing.T) {
	ctx := context.Background()
	d, server := dbtest.Own(t)
	opened := d.Open(t)
	if _, err := opened.Pool.Exec(ctx, `INSERT INTO merchants (id, name, created_at) VALUES (gen_random_uuid(), 'Shop', now())`); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := opened.Pool.Ping(ctx); err == nil {
		t.Fatal("a killed server answers")
	}
	if err := server.Again(ctx); err != nil {
		t.Fatal(err)
	}
	var name string
	if err := opened.Pool.QueryRow(ctx, `SELECT name FROM merchants`).Scan(&name); err != nil || name != "Shop" {
		t.Errorf("after the crash: %q, %v", name, err)
	}
}
