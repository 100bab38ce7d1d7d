// Package migrations holds the schema: our own SQL files and River's versions, applied by goose in that order.
package migrations

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"patchbay/internal/pg"
)

//go:embed *.sql
var files embed.FS

// riverBase is added to River's version numbers, so that ours can go on counting from 1 below them.
const riverBase = 900_000

// Newest returns the number of the newest migration of our own.
func Newest() (newest int) {
	all, err := files.ReadDir(".")
	if err != nil {
		return 0
	}
	for _, one := range all {
		number, _, _ := strings.Cut(one.Name(), "_")
		if n, err := strconv.Atoi(number); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}

// Up applies what is missing, one process at a time, and returns how many were applied. With nothing missing it costs
// a few round trips and takes no lock.
func Up(ctx context.Context, url string) (applied int, err error) {
	err = with(ctx, url, func(db *sql.DB, p *goose.Provider) error {
		if err := suitable(ctx, db); err != nil {
			return err
		}
		pending, err := p.HasPending(ctx)
		if err != nil || !pending {
			return err
		}
		for try := 1; ; try++ {
			done, err := p.Up(ctx)
			applied += len(done)
			var partial *goose.PartialError
			if errors.As(err, &partial) {
				applied += len(partial.Applied)
			}
			if !couldNotLock(err) || try == 3 {
				return err
			}
			select {
			case <-time.After(2 * time.Second): // those who waited behind it go first
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return applied, err
}

// served are the tables whose rows the serving role reads and writes. Of events it may add rows, of the two lists of
// migrations it may only read.
var served = []string{
	"api_key_daily_reads", "api_keys", "bulk_items", "bulks", "connect_links", "connection_counts", "connections", "erasure_revocations", "erasures", "flows", "grants", "hourly_refreshes",
	"hourly_stats", "identities", "keyset_check", "links", "merchants", "notes", "notices", "outbox", "passkey_challenges", "provider_slots", "providers", "rate_limits", "rechecks", "revocations",
	"search_documents", "search_words", "search_words_left", "second_factors", "sessions", "settings", "token_reads", "users", "warnings",
	"webhook_deliveries", "webhook_endpoints", "webhook_events", "webhook_reminders", "webhook_sequences",
	"river_job", "river_leader", "river_notification", "river_queue",
}

// called are the functions that the serving role calls, by itself or through an index, a generated column or a trigger. PUBLIC
// may not call those that run with the owner's rights, and in some databases none at all.
var called = []string{
	"connection_health(text)", "connection_health_order(text, timestamptz, timestamptz, timestamptz, timestamptz)",
	"connection_state(text, timestamptz, timestamptz)", "events_check_erased(uuid)", "events_drop_before(date)", "events_erase(uuid, uuid[], integer)", "events_erase_names(uuid, text[])", "events_make_month(date)", "name_fold(text)",
	"search_fold(text)", "search_words_of(text)", "webhook_add(text, timestamptz, uuid, uuid, jsonb)", "webhook_state(connections)", "river_job_state_in_bitmask(bit, river_job_state)",
}

// Allow gives the role of servingURL what it needs of tables that the role of url owns: rows may be read and written,
// the schema not touched, and events not changed. It is repeated at every start: a migration may have added tables, and the role
// may be new.
func Allow(ctx context.Context, url, servingURL string) error {
	serving, err := newPool(ctx, servingURL)
	if err != nil {
		return err
	}
	defer serving.Close()
	var role string
	if err := serving.QueryRow(ctx, `SELECT current_user`, pgx.QueryExecModeSimpleProtocol).Scan(&role); err != nil {
		return err
	}
	owner, err := open(url)
	if err != nil {
		return err
	}
	defer owner.Close()
	var same bool
	if err := owner.QueryRowContext(ctx, `SELECT current_user = $1`, role).Scan(&same); err != nil || same {
		return err // addresses may differ and lead to one role
	}
	name := pgx.Identifier{role}.Sanitize()
	tx, err := owner.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after the commit
	for _, statement := range []string{
		`SELECT pg_advisory_xact_lock(hashtext('patchbay allow'))`,
		`GRANT USAGE ON SCHEMA public TO ` + name,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ` + strings.Join(served, ", ") + ` TO ` + name,
		`GRANT USAGE ON SEQUENCE river_job_id_seq, river_notification_id_seq TO ` + name,
		`GRANT EXECUTE ON FUNCTION ` + strings.Join(called, ", ") + ` TO ` + name,
		`REVOKE ALL ON events, goose_db_version, river_migration FROM ` + name,
		`GRANT SELECT ON events, goose_db_version, river_migration TO ` + name,
		`GRANT INSERT ON events TO ` + name,
		// The months need no rights of their own: theirs are those of events.
		`DO $$ DECLARE part regclass; BEGIN
			FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events'::regclass LOOP
				EXECUTE format('REVOKE ALL ON %s FROM ' || quote_ident('` + strings.ReplaceAll(role, "'", "''") + `'), part);
			END LOOP;
		END $$`,
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("allow %s: %w", role, err)
		}
	}
	return tx.Commit()
}

// kept is the newest migration that Down does not take back: with the tables of the first schema the data would go.
const kept = 6

// ErrKept is returned by Down when only migrations are left that would take the data with them.
var ErrKept = errors.New("the migrations that are left hold the data, and are not taken back: restore a backup, or drop the database")

// Down takes back the newest applied migration of our own and returns its name. It returns ErrKept for the first schema's, and never
// takes back River's, of which each version may drop what its jobs are kept in.
func Down(ctx context.Context, url string) (name string, err error) {
	err = with(ctx, url, func(_ *sql.DB, p *goose.Provider) error {
		all, err := p.Status(ctx)
		if err != nil {
			return err
		}
		var newest int64
		for _, s := range all {
			if s.State == goose.StateApplied && s.Source.Version < riverBase {
				newest = max(newest, s.Source.Version)
			}
		}
		if newest <= kept {
			return ErrKept
		}
		done, err := p.ApplyVersion(ctx, newest, false)
		if err == nil {
			name = title(done.Source)
		}
		return err
	})
	return name, err
}

// Migration is one line of Status.
type Migration struct {
	Name    string
	Applied bool
}

// Status lists every known migration, oldest first. It only reads, and takes no lock: through a pooler a session's lock would stay behind.
func Status(ctx context.Context, url string) (all []Migration, err error) {
	pool, err := newPool(ctx, url)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	applied, err := appliedVersions(ctx, pool)
	if err != nil {
		return nil, err
	}
	known, err := sources()
	for _, s := range known {
		all = append(all, Migration{Name: title(&s), Applied: slices.Contains(applied, s.Version)})
	}
	return all, err
}

// Pending reports whether this program knows migrations that the database has not seen. It only reads.
func Pending(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	applied, err := appliedVersions(ctx, pool)
	if err != nil {
		return true, err
	}
	known, err := sources()
	return slices.ContainsFunc(known, func(s goose.Source) bool { return !slices.Contains(applied, s.Version) }), err
}

// appliedVersions returns the goose versions that a database has seen.
func appliedVersions(ctx context.Context, pool *pgxpool.Pool) ([]int64, error) {
	var exists bool
	if err := pool.QueryRow(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&exists); err != nil || !exists {
		return nil, err
	}
	rows, err := pool.Query(ctx, `SELECT version_id FROM goose_db_version WHERE is_applied`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// Applied returns an error if this program knows migrations that the database of this address has not seen.
func Applied(ctx context.Context, url string) error {
	pool, err := newPool(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	pending, err := Pending(ctx, pool)
	if err == nil && pending {
		err = errors.New("migrations are to be applied, and serve was asked not to: run patchbay migrate up first")
	}
	return err
}

// OldestPostgres is the oldest major version of Postgres that the schema works on.
const OldestPostgres = 15

// Suitable refuses a database in which search or sign-in would silently find nothing: names are Khmer as well as Latin, and
// pg_trgm sees a letter only where the database's locale says that it is one; and what is typed in capitals is found by its small
// letters, of which a few locales have others.
func Suitable(ctx context.Context, url string) error {
	db, err := open(url)
	if err != nil {
		return err
	}
	defer db.Close()
	return suitable(ctx, db)
}

func suitable(ctx context.Context, db *sql.DB) error {
	// The schema was written anew before the first release; limits is a table that only the earlier one had.
	var earlier bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('limits') IS NOT NULL AND to_regclass('goose_db_version') IS NOT NULL`).Scan(&earlier); err != nil {
		return err
	}
	if earlier {
		return errors.New("this database holds the schema of a Patchbay from before the first release, which is not carried over: " +
			"give DATABASE_URL an empty database (the old one is left as it is)")
	}
	const mend = `create it with: CREATE DATABASE … ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0`
	var name, encoding, locale string
	err := db.QueryRowContext(ctx, `
		SELECT d.datname, pg_encoding_to_char(d.encoding), coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datctype)
		FROM pg_database d WHERE d.datname = current_database()`). // an ICU locale's column had another name before Postgres 17

		Scan(&name, &encoding, &locale)
	if err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database %s is encoded in %s and cannot hold Khmer: %s", name, encoding, mend)
	}
	var letters, folds bool
	err = db.QueryRowContext(ctx, `
		SELECT 'ក' ~ '^[[:alpha:]]$', lower('ABCDEFGHIJKLMNOPQRSTUVWXYZÀÉÌÍĨÎÕÜ') = 'abcdefghijklmnopqrstuvwxyzàéìíĩîõü'`).Scan(&letters, &folds)
	switch {
	case err != nil:
		return err
	case !letters:
		return fmt.Errorf("the database %s has the locale %s, in which search finds nothing in Khmer: %s", name, locale, mend)
	case !folds: // Turkish, Azerbaijani and Lithuanian have an i of their own
		return fmt.Errorf("the database %s has the locale %s, in which the small letter of I or of another capital is not the usual one, so that addresses and names in capitals are not found: %s",
			name, locale, mend)
	}
	return surroundings(ctx, db)
}

// Fingerprint changes with every change to the schema; it names the tests' template database.
func Fingerprint() (string, error) {
	h := sha256.New()
	list, err := files.ReadDir(".")
	if err != nil {
		return "", err
	}
	for _, f := range list {
		b, err := files.ReadFile(f.Name())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", f.Name(), len(b))
		h.Write(b)
	}
	known, err := sources()
	if err != nil {
		return "", err
	}
	fmt.Fprint(h, known)
	return fmt.Sprintf("%x", h.Sum(nil))[:16], nil
}

func open(url string) (*sql.DB, error) {
	// The pool's own parser, because the address may carry pool_max_conns and the like.
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if c.ConnConfig.ValidateConnect == nil { // a standby cannot be migrated
		c.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	c.ConnConfig.ValidateConnect = pg.WithoutPanic(c.ConnConfig.ValidateConnect)
	return stdlib.OpenDB(*c.ConnConfig, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		// A statement that waits for a lock makes all that come after it wait too. The role's own limits are those of short statements.
		_, err := conn.Exec(ctx, `SET lock_timeout = '10s'; SET statement_timeout = '15min'`)
		return err
	})), nil
}

// newPool returns a pool that reads. A check of its address's target_session_attrs that has no answer fails.
func newPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	c.ConnConfig.ValidateConnect = pg.WithoutPanic(c.ConnConfig.ValidateConnect)
	return pgxpool.NewWithConfig(ctx, c)
}

// couldNotLock says whether a migration was taken back because others held locks: lock_not_available or deadlock_detected.
func couldNotLock(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && (said.Code == "55P03" || said.Code == "40P01")
}

func with(ctx context.Context, url string, do func(*sql.DB, *goose.Provider) error) error {
	db, err := open(url)
	if err != nil {
		return err
	}
	defer db.Close()
	p, err := provider(db)
	if err != nil {
		return err
	}
	return do(db, p)
}

func provider(db *sql.DB) (*goose.Provider, error) {
	// Tried every half second for five minutes: another process may be building an index on a large table.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, err
	}
	river, err := riverMigrations()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(river...), goose.WithLogger(goose.NopLogger()),
		// Ours keep being added below River's.
		goose.WithAllowOutofOrder(true))
}

// riverMigrations wraps each version of River's in a goose migration of its own: several in one transaction fail with
// 55P04, since an enum's new value cannot be used in the transaction that adds it.
func riverMigrations() ([]*goose.Migration, error) {
	list, err := riverVersions()
	if err != nil {
		return nil, err
	}
	all := make([]*goose.Migration, 0, len(list))
	for i, v := range list {
		before := -1 // River's word for "nothing at all"
		if i > 0 {
			before = list[i-1]
		}
		all = append(all, goose.NewGoMigration(int64(riverBase+v),
			&goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
				return migrateRiver(ctx, db, rivermigrate.DirectionUp, v)
			}},
			&goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
				return migrateRiver(ctx, db, rivermigrate.DirectionDown, before)
			}}))
	}
	return all, nil
}

// migrateRiver lends River the pgx connection beneath database/sql. It is safe to repeat.
func migrateRiver(ctx context.Context, db *sql.DB, direction rivermigrate.Direction, target int) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driver any) error {
		std, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("river needs pgx, not %T", driver)
		}
		m, err := rivermigrate.New(riverpgxv5.New(nil), &rivermigrate.Config{Logger: quiet()})
		if err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, std.Conn(), func(tx pgx.Tx) error {
			// River advises against several versions in one transaction; this is always one.
			//lint:ignore SA1019 its successor wants a pool, and there is only the connection goose gave us
			_, err := m.MigrateTx(ctx, tx, direction, &rivermigrate.MigrateOpts{TargetVersion: target})
			return err
		})
	})
}

func riverVersions() ([]int, error) {
	m, err := rivermigrate.New(riverpgxv5.New(nil), &rivermigrate.Config{Logger: quiet()})
	if err != nil {
		return nil, err
	}
	var list []int
	for _, v := range m.AllVersions() {
		list = append(list, v.Version)
	}
	slices.Sort(list)
	return list, nil
}

// sources are the migrations this program knows, ours and River's, oldest first.
func sources() ([]goose.Source, error) {
	list, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var all []goose.Source
	for _, f := range list {
		v, err := goose.NumericComponent(f.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, goose.Source{Path: f.Name(), Version: v})
	}
	river, err := riverVersions()
	if err != nil {
		return nil, err
	}
	for _, v := range river {
		all = append(all, goose.Source{Version: int64(riverBase + v)})
	}
	slices.SortFunc(all, func(a, b goose.Source) int { return cmp.Compare(a.Version, b.Version) })
	return all, nil
}

func title(s *goose.Source) string {
	if s.Path == "" {
		return fmt.Sprintf("river %d", s.Version-riverBase)
	}
	return s.Path
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
