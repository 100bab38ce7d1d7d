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

func TestADatabaseFromBeforeTheFirstReleaseIsRefused(t *testing.T) {
	address := dbtest.Make(t).URL
	// The earlier schema had this table, and the first version's number like today's.
	exec(t, connect(t, address), `CREATE UNLOGGED TABLE limits (key bytea PRIMARY KEY, tat timestamptz NOT NULL)`)
	for name, err := range map[string]error{
		"up":       func() error { _, err := migrations.Up(context.Background(), address); return err }(),
		"suitable": migrations.Suitable(context.Background(), address),
	} {
		if err == nil || !strings.Contains(err.Error(), "before the first release") || !strings.Contains(err.Error(), "empty database") {
			t.Errorf("%s: err = %v: want a sentence that says what it is and what to do", name, err)
		}
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
		"00001_people.sql":         "c9409297b4d65d37",
		"00002_connections.sql":    "865d2389eab400a0",
		"00003_grants.sql":         "f0b0c87c2113c4a7",
		"00004_events.sql":         "0ab0746a0a9e5567",
		"00005_search.sql":         "8ec3a512d6ecfc95",
		"00006_mail_and_bulks.sql": "9d29cdc723b378d0",
		"00007_renewable.sql":      "962ca2cb75d9d33c",
		"00009_connecting.sql":     "01a236ac0e3ede35",
		"00011_requests.sql":       "759de31e9a7cf5eb",
		"00008_names.sql":          "fc742c012d0bca3c",
		"00012_access.sql":         "2d9fb0a5d9a48ff9",
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
