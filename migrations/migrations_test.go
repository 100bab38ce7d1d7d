package migrations_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/db/dbtest"
	"patchbay/migrations"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func with(t *testing.T, address string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

func TestADatabaseThatCannotSearchKhmerIsRefused(t *testing.T) {
	admin := dbtest.Make(t).URL
	conn := connect(t, admin)
	for name, options := range map[string]string{
		"no_locale": `ENCODING 'UTF8' LOCALE 'C'`,
		"no_utf8":   `ENCODING 'LATIN1' LOCALE 'C'`,
	} {
		t.Run(name, func(t *testing.T) {
			// Tests of other processes share the cluster.
			database := name + "_" + strings.TrimPrefix(conn.Config().Database, "test_")
			exec(t, conn, `CREATE DATABASE `+database+` `+options+` TEMPLATE template0`)
			t.Cleanup(func() { exec(t, conn, `DROP DATABASE `+database+` WITH (FORCE)`) })
			_, err := migrations.Up(context.Background(), with(t, admin, func(u *url.URL) { u.Path = "/" + database }))
			if err == nil || !strings.Contains(err.Error(), "Khmer") || !strings.Contains(err.Error(), "CREATE DATABASE") {
				t.Errorf("err = %v: want what is wrong and how to mend it", err)
			}
		})
	}
}

func TestTheServingRoleMayNotChangeEvents(t *testing.T) {
	ctx := context.Background()
	d := dbtest.Make(t)
	owner := connect(t, d.URL)
	role := "serving_" + owner.Config().Database
	exec(t, owner, `CREATE ROLE `+role+` LOGIN PASSWORD 'serving'`)
	t.Cleanup(func() {
		exec(t, owner, `DROP OWNED BY `+role)
		exec(t, owner, `DROP ROLE `+role)
	})
	serving := with(t, d.URL, func(u *url.URL) { u.User = url.UserPassword(role, "serving") })
	if err := migrations.Allow(ctx, d.URL, serving); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, serving)
	exec(t, conn, `INSERT INTO merchants (id, name, created_at) VALUES (gen_random_uuid(), 'Shop', now())`)
	exec(t, conn, `SELECT events_make_month(now()::date)`)
	exec(t, conn, `SELECT * FROM river_job`)
	for _, refused := range []string{
		`DELETE FROM events`, `UPDATE events SET note = ''`, `TRUNCATE events`, `DROP TABLE events`, `DELETE FROM goose_db_version`,
	} {
		if _, err := conn.Exec(ctx, refused); err == nil {
			t.Errorf("%s was allowed", refused)
		}
	}
	part := `events_` + strings.ReplaceAll(today(t, owner), "-", "_")
	if _, err := conn.Exec(ctx, `DELETE FROM `+part); err == nil {
		t.Errorf("DELETE FROM %s was allowed", part)
	}
}

func today(t *testing.T, conn *pgx.Conn) (month string) {
	t.Helper()
	if err := conn.QueryRow(context.Background(), `SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')`).Scan(&month); err != nil {
		t.Fatal(err)
	}
	return month
}

// TestLandedMigrationsStand: a database that has run one is not given it again, however it is edited.
func TestLandedMigrationsStand(t *testing.T) {
	for name, landed := range map[string]string{
		"00001_core.sql":            "34449e985f23d88f",
		"00010_refresh.sql":         "872ecb89e3f6601d",
		"00020_mail.sql":            "15dd73ed3a097103",
		"00030_backoffice.sql":      "2c394943b41e8eac",
		"00040_bulk_of_events.sql":  "c0705f16b173a716",
		"00041_refresh_hours.sql":   "4eb22e39a81640da",
		"00042_search_grams.sql":    "fb7cf75bd3db2519",
		"00043_key_days.sql":        "1cc8c48cefd6c2c9",
		"00044_short_latencies.sql": "00ea12670c46cffc",
	} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if now := fmt.Sprintf("%x", sha256.Sum256(text))[:16]; now != landed {
			t.Errorf("%s has landed and was edited since: write another", name)
		}
	}
}
