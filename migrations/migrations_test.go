package migrations_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"

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

// TestADatabaseThatDoesNotFindCapitalsIsRefused holds locales of ICU to whether capitals have the small letters that they have elsewhere.
func TestADatabaseThatDoesNotFindCapitalsIsRefused(t *testing.T) {
	admin := dbtest.Make(t).URL
	conn := connect(t, admin)
	for locale, refused := range map[string]bool{
		"tr-TR": true, "tr": true, "az-AZ": true, "lt-LT": true, "und-u-ks-level2-cu-eur": false,
		"und": false, "en-US": false, "km-KH": false, "fr-CA": false, "de-DE": false, "el-GR": false,
	} {
		t.Run(locale, func(t *testing.T) {
			database := "icu_" + strings.ToLower(strings.ReplaceAll(locale, "-", "_")) + "_" + strings.TrimPrefix(conn.Config().Database, "test_")[:12]
			exec(t, conn, `CREATE DATABASE `+database+` ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE '`+locale+`' LOCALE 'C.UTF-8' TEMPLATE template0`)
			t.Cleanup(func() { exec(t, conn, `DROP DATABASE `+database+` WITH (FORCE)`) })
			err := migrations.Suitable(context.Background(), with(t, admin, func(u *url.URL) { u.Path = "/" + database }))
			if (err != nil) != refused || refused && (!strings.Contains(err.Error(), locale) || !strings.Contains(err.Error(), "capitals") || !strings.Contains(err.Error(), "CREATE DATABASE")) {
				t.Errorf("%v", err)
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

// addRole makes a role that may log in, and returns it with its address.
func addRole(t *testing.T, address, kind string) (role, its string) {
	t.Helper()
	owner := connect(t, address)
	role = kind + "_" + owner.Config().Database
	exec(t, owner, `CREATE ROLE `+role+` LOGIN PASSWORD 'secret'`)
	t.Cleanup(func() {
		exec(t, owner, `DROP OWNED BY `+role)
		exec(t, owner, `DROP ROLE `+role)
	})
	return role, with(t, address, func(u *url.URL) { u.User = url.UserPassword(role, "secret") })
}

func value[T any](t *testing.T, conn *pgx.Conn, sql string) (v T) {
	t.Helper()
	if err := conn.QueryRow(context.Background(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestTheServingRoleMayNotChangeEvents(t *testing.T) {
	ctx := context.Background()
	d := dbtest.Make(t)
	owner := connect(t, d.URL)
	_, serving := addRole(t, d.URL, "serving")
	_, stranger := addRole(t, d.URL, "stranger")
	if err := migrations.Allow(ctx, d.URL, serving); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, serving)
	exec(t, conn, `INSERT INTO merchants (id, name, created_at) VALUES (gen_random_uuid(), 'Shop', now())`)
	exec(t, conn, `INSERT INTO events (id, at, kind) VALUES (gen_random_uuid(), now(), 'merchant.added')`)
	exec(t, conn, `SELECT events_make_month(now()::date)`)
	exec(t, conn, `SELECT * FROM river_job`)
	part := `events_` + strings.ReplaceAll(value[string](t, owner, `SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')`), "-", "_")
	for _, refused := range []string{
		`DELETE FROM events`, `UPDATE events SET note = ''`, `TRUNCATE events`, `DROP TABLE events`, `DELETE FROM goose_db_version`,
		`DELETE FROM ` + part, `TRUNCATE ` + part, `DROP TABLE ` + part, `ALTER TABLE events DETACH PARTITION ` + part,
		`ALTER TABLE events DISABLE TRIGGER ALL`, `DROP FUNCTION events_drop_before`,
		`CREATE OR REPLACE FUNCTION events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
		`SELECT events_drop_before('2999-01-01')`, `SELECT events_drop_before(NULL)`,
	} {
		if _, err := conn.Exec(ctx, refused); err == nil {
			t.Errorf("%s was allowed", refused)
		}
	}
	other := connect(t, stranger)
	for _, refused := range []string{`SELECT events_drop_before('2999-01-01')`, `SELECT events_make_month('2999-01-01')`, `SELECT * FROM events`} {
		if _, err := other.Exec(ctx, refused); err == nil {
			t.Errorf("%s was allowed to a role that may merely connect", refused)
		}
	}
}

// TestNoEventsAreDroppedThatAreKept calls the function as the serving role, which may write the setting too.
func TestNoEventsAreDroppedThatAreKept(t *testing.T) {
	ctx := context.Background()
	d := dbtest.Make(t)
	owner := connect(t, d.URL)
	_, serving := addRole(t, d.URL, "serving")
	if err := migrations.Allow(ctx, d.URL, serving); err != nil {
		t.Fatal(err)
	}
	exec(t, owner, `SELECT events_make_month((now() - make_interval(months => m))::date) FROM generate_series(0, 12) AS m`)
	exec(t, owner, `INSERT INTO events (id, at, kind) SELECT gen_random_uuid(), date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - make_interval(months => m), 'merchant.added' FROM generate_series(0, 12) AS m`)
	conn := connect(t, serving)
	for _, c := range []struct {
		setting, before string
		kept            int // of the thirteen months
		refused         bool
	}{
		{"", "2999-01-01", 13, true},
		{"0", "2999-01-01", 13, true},
		{"-5", "2999-01-01", 13, true},
		{"many", "2999-01-01", 13, true},
		{"12", "2999-01-01", 13, false},
		{"9", "2999-01-01", 10, false},
		{"9", "infinity", 10, false},
		{"6", "1999-01-01", 10, false},
		{"1", "2999-01-01", 4, false},
		{"1", "2999-01-01", 4, false},
	} {
		exec(t, conn, `DELETE FROM settings WHERE name = 'events.months'`)
		if c.setting != "" {
			exec(t, conn, `INSERT INTO settings (name, value) VALUES ('events.months', '`+c.setting+`')`)
		}
		_, err := conn.Exec(ctx, `SELECT events_drop_before($1::date)`, c.before)
		if kept := value[int](t, owner, `SELECT count(*) FROM events`); kept != c.kept || (err != nil) != c.refused {
			t.Errorf("setting %q, before %s: %d months are left, want %d; err = %v", c.setting, c.before, kept, c.kept, err)
		}
	}
}

// TestTheServingRoleIsGivenOurTablesOnly names every table and function of the schema, beside one of an extension that
// PUBLIC may not call and a table that is not ours.
func TestTheServingRoleIsGivenOurTablesOnly(t *testing.T) {
	ctx := context.Background()
	d := dbtest.Make(t)
	superuser := connect(t, d.URL)
	role, serving := addRole(t, d.URL, "serving")
	exec(t, superuser, `CREATE TABLE payroll (id int)`)
	exec(t, superuser, `CREATE FUNCTION pg_stat_statements_reset() RETURNS void LANGUAGE sql AS ''`)
	exec(t, superuser, `REVOKE ALL ON FUNCTION pg_stat_statements_reset FROM PUBLIC`)
	exec(t, superuser, `REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC`)
	exec(t, superuser, `REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM `+role)
	exec(t, superuser, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role) // an earlier version granted this
	exec(t, superuser, `REVOKE ALL ON payroll FROM `+role)
	if err := migrations.Allow(ctx, d.URL, serving); err != nil {
		t.Fatal(err)
	}
	may := func(kind, sql string) {
		if got := value[string](t, superuser, sql); got != "" {
			t.Errorf("%s: %s", kind, got)
		}
	}
	may("tables that the serving role may not write, and should", `
		SELECT coalesce(string_agg(c.relname, ', '), '') FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
			AND c.relname NOT IN ('events', 'goose_db_version', 'river_migration', 'payroll') AND EXISTS (SELECT FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p WHERE NOT has_table_privilege('`+role+`', c.oid, p))`)
	may("sequences that the serving role may not use, and should", `
		SELECT coalesce(string_agg(c.relname, ', '), '') FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S' AND c.relname NOT LIKE 'goose%'
			AND CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege('`+role+`', c.oid, 'USAGE') END`)
	may("tables that the serving role may change, and should not", `
		SELECT coalesce(string_agg(c.relname, ', '), '') FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
			AND (c.relname IN ('events', 'goose_db_version', 'river_migration', 'payroll') OR c.relispartition) AND has_table_privilege('`+role+`', c.oid, 'UPDATE, DELETE, TRUNCATE')`)
	may("functions that the serving role may not call, and should", `
		SELECT coalesce(string_agg(p.proname, ', '), '') FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prorettype <> 'trigger'::regtype AND p.proname <> 'pg_stat_statements_reset'
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') AND NOT has_function_privilege('`+role+`', p.oid, 'EXECUTE')`)
	may("functions with the owner's rights that PUBLIC may call", `
		SELECT coalesce(string_agg(p.proname, ', '), '') FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef AND a.grantee = 0`)
	if value[bool](t, superuser, `SELECT has_function_privilege('`+role+`', 'pg_stat_statements_reset()', 'EXECUTE') OR has_table_privilege('`+role+`', 'payroll', 'SELECT')`) {
		t.Error("the serving role was given what is not ours")
	}
}

// TestMigrationsWaitForLocksOnTheirOwnTerms holds a lock while a migration wants it, as a role whose own limits are those of short statements.
func TestMigrationsWaitForLocksOnTheirOwnTerms(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d := dbtest.Make(t)
	owner := connect(t, d.URL)
	exec(t, owner, `ALTER DATABASE `+owner.Config().Database+` SET statement_timeout = '250ms'`) // time enough to set another, and far less than the wait for a lock
	for name := ""; name != "00012_access.sql"; {
		var err error
		if name, err = migrations.Down(ctx, d.URL); err != nil {
			t.Fatal(err)
		}
	}
	holder := connect(t, d.URL)
	exec(t, holder, `SET statement_timeout = 0`)
	exec(t, holder, `BEGIN; LOCK TABLE users IN ACCESS SHARE MODE`)
	waits := make(chan error, 1)
	go func() {
		_, err := migrations.Up(ctx, d.URL)
		waits <- err
	}()
	exec(t, owner, `SET statement_timeout = 0`)
	dbtest.Eventually(t, "a migration that waits", func() bool {
		return value[bool](t, owner, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	})
	dbtest.Eventually(t, "a migration that gives way", func() bool {
		return value[bool](t, owner, `SELECT NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	})
	exec(t, holder, `ROLLBACK`)
	if err := dbtest.Receive(t, waits, "the migration"); err != nil {
		t.Errorf("once the lock is free: %v", err)
	}
}

// TestAMigrationThatPostgresBreaksOffIsTriedAgain makes a deadlock: a migration has events locked and wants a month of it, which a transaction
// holds that then reads events.
func TestAMigrationThatPostgresBreaksOffIsTriedAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d := dbtest.Make(t)
	for name := ""; name != "00034_erased_refreshes.sql"; {
		var err error
		if name, err = migrations.Down(ctx, d.URL); err != nil {
			t.Fatal(err)
		}
	}
	owner, holder := connect(t, d.URL), connect(t, d.URL)
	month := value[string](t, owner, `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass ORDER BY 1 LIMIT 1`)
	exec(t, holder, `SET deadlock_timeout = '30s'`) // the migration finds it first
	exec(t, holder, `BEGIN; LOCK TABLE ONLY `+month+` IN ACCESS SHARE MODE`)
	done := make(chan error, 1)
	go func() {
		_, err := migrations.Up(ctx, d.URL)
		done <- err
	}()
	dbtest.Eventually(t, "the migration to wait for a month", func() bool {
		return value[bool](t, owner, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = '`+month+`'::regclass)`)
	})
	exec(t, holder, `SELECT FROM events LIMIT 1`) // waits until the migration is broken off
	exec(t, holder, `ROLLBACK`)
	if err := dbtest.Receive(t, done, "the migration"); err != nil {
		t.Errorf("after a deadlock: %v", err)
	}
}

// TestStatusOnlyReads asks for it while another process migrates, and of a database without a schema.
func TestStatusOnlyReads(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := dbtest.Make(t)
	conn := connect(t, d.URL)
	exec(t, conn, fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, lock.DefaultLockID))
	for _, migrated := range []bool{true, false} {
		all, err := migrations.Status(ctx, d.URL)
		if err != nil || len(all) == 0 || slices.ContainsFunc(all, func(m migrations.Migration) bool { return m.Applied != migrated }) {
			t.Errorf("with every migration applied (%v): %v, %v", migrated, all, err)
		}
		if there := value[bool](t, conn, `SELECT to_regclass('goose_db_version') IS NOT NULL`); there != migrated {
			t.Errorf("the list of migrations is there: %v, want %v", there, migrated)
		}
		exec(t, conn, `DROP SCHEMA public CASCADE; CREATE SCHEMA public`)
	}
}

func TestAnAnswerWithoutARowEndsNoProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address := dbtest.Rowless(t)
	for name, ask := range map[string]func() error{
		"up":      func() error { _, err := migrations.Up(ctx, address); return err },
		"down":    func() error { _, err := migrations.Down(ctx, address); return err },
		"status":  func() error { _, err := migrations.Status(ctx, address); return err },
		"applied": func() error { return migrations.Applied(ctx, address) },
		"allow":   func() error { return migrations.Allow(ctx, address, address) },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "no row") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDownStopsBeforeWhatItCannotGiveBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := dbtest.Make(t)
	owner := connect(t, d.URL)
	exec(t, owner, `INSERT INTO merchants (id, name, created_at) VALUES (gen_random_uuid(), 'Shop', now())`)
	var err error
	for range migrations.Newest() + 1 {
		var name string
		if name, err = migrations.Down(ctx, d.URL); err != nil {
			break
		}
		if strings.HasPrefix(name, "river") {
			t.Errorf("took back %s", name)
		}
	}
	if !errors.Is(err, migrations.ErrKept) {
		t.Fatalf("err = %v, want ErrKept", err)
	}
	if value[int](t, owner, `SELECT count(*) FROM merchants`) != 1 || value[int](t, owner, `SELECT count(*) FROM river_job`) != 0 {
		t.Error("rows were lost")
	}
	if _, err := migrations.Up(ctx, d.URL); err != nil {
		t.Error(err)
	}
}

// TestEveryTriggerIsNamedInTheCodeThatCausesIt: who reads a statement must learn what else it does.
func TestEveryTriggerIsNamedInTheCodeThatCausesIt(t *testing.T) {
	conn := connect(t, dbtest.Make(t).URL)
	rows, err := conn.Query(t.Context(), `SELECT DISTINCT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		WHERE NOT tgisinternal AND c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'river%'`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	var code strings.Builder
	err = filepath.WalkDir("../internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		code.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.Contains(code.String(), name) {
			t.Errorf("no Go file names the trigger %s", name)
		}
	}
}

// TestLandedMigrationsStand: a database that has run one is not given it again, however it is edited.
func TestLandedMigrationsStand(t *testing.T) {
	for name, landed := range map[string]string{
		"00001_people.sql":                "c9409297b4d65d37",
		"00002_connections.sql":           "865d2389eab400a0",
		"00003_grants.sql":                "f0b0c87c2113c4a7",
		"00004_events.sql":                "0ab0746a0a9e5567",
		"00005_search.sql":                "8ec3a512d6ecfc95",
		"00006_mail_and_bulks.sql":        "9d29cdc723b378d0",
		"00007_renewable.sql":             "962ca2cb75d9d33c",
		"00009_connecting.sql":            "01a236ac0e3ede35",
		"00011_requests.sql":              "759de31e9a7cf5eb",
		"00008_names.sql":                 "fc742c012d0bca3c",
		"00012_access.sql":                "2d9fb0a5d9a48ff9",
		"00014_authority.sql":             "b1aac7c68d1d3fdf",
		"00013_trail.sql":                 "c282d2697ac68472",
		"00020_connect_links.sql":         "7ef82a97e11cb1e8",
		"00015_flows_browser.sql":         "cfa5473c1bc77e84",
		"00016_months.sql":                "74d89306f1c6d3c8",
		"00019_webhooks.sql":              "9ee665552db5f6b0",
		"00022_identities.sql":            "deeb48729ac9242a",
		"00026_restored.sql":              "fd8ee5c35a859cc5",
		"00018_inputs.sql":                "6c4d9ff4eff0b830",
		"00023_second_factor.sql":         "edccb14be6457f16",
		"00025_erasures.sql":              "09c0c7d506bab5dc",
		"00027_notices.sql":               "277fbe592784f22c",
		"00024_nicknames.sql":             "684e30f118c552cb",
		"00029_notes.sql":                 "efcd3f2dd216e7db",
		"00028_connection_references.sql": "7615906a965a6f18",
		"00033_webhook_problems.sql":      "cf57012081021977",
		"00031_words.sql":                 "40e1fb245b732932",
		"00034_erased_refreshes.sql":      "30a54b9d9f3c0e47",
		"00035_statistics.sql":            "4f8aa8feb0b66b1f",
		"00030_messages.sql":              "5aac720defc27671",
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
