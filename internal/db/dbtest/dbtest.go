// Package dbtest gives every test a migrated Postgres database of its own. A test that asks for one fails when there
// is no Postgres: it never skips.
package dbtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/db"
	"patchbay/internal/localpg"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/migrations"
)

// Database is where a test's database is and what opens it, for tests that start processes of their own.
type Database struct {
	URL    string
	Keyset string // as KEYSET takes it
}

// New returns a fresh migrated database, opened. It is dropped when the test ends.
func New(t testing.TB, o ...pg.Options) *db.DB {
	t.Helper()
	return Make(t).Open(t, o...)
}

// Make returns a fresh migrated database with a keyset of its own. It is dropped when the test ends.
func Make(t testing.TB) Database {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin, err := cluster(ctx)
	if err != nil {
		t.Fatalf("a Postgres for tests: %v", err)
	}
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		t.Fatalf("a Postgres for tests: %v", err)
	}
	defer conn.Close(ctx)
	template, err := ensureTemplate(ctx, conn, admin)
	if err != nil {
		t.Fatalf("the migrated template database: %v", err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if _, err := conn.Exec(ctx, fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, name, template)); err != nil {
		t.Fatalf("cloning the template database: %v", err)
	}
	// No statement of a test waits longer, whatever its context.
	if _, err := conn.Exec(ctx, `ALTER DATABASE `+name+` SET statement_timeout = '2min'`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, admin)
		if err != nil {
			t.Errorf("dropping the test's database: %v", err)
			return
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Errorf("dropping the test's database: %v", err)
		}
	})
	return Database{URL: onDatabase(t, admin, name), Keyset: newKeyset(t)}
}

// Open opens the database, as often as a test wants: once for each replica, say. It is closed when the test ends.
func (d Database) Open(t testing.TB, o ...pg.Options) *db.DB {
	t.Helper()
	keyset, err := seal.Parse(d.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	var options pg.Options
	if len(o) > 0 {
		options = o[0]
	}
	opened, err := db.Open(context.Background(), d.URL, keyset, options)
	if err != nil {
		t.Fatalf("opening the test's database: %v", err)
	}
	t.Cleanup(opened.Close)
	return opened
}

// Rotated returns the database with one more key in its keyset, which seals.
func (d Database) Rotated(t testing.TB) Database {
	return d.turned(t, func(k *seal.Keyset) (*seal.Keyset, error) {
		more, fresh, err := k.Add()
		if err != nil {
			return nil, err
		}
		return more.Promote(fresh)
	})
}

// Retired returns the database with a keyset of the key alone that seals.
func (d Database) Retired(t testing.TB) Database {
	return d.turned(t, func(k *seal.Keyset) (_ *seal.Keyset, err error) {
		for _, id := range k.IDs() {
			if id != k.Primary() && err == nil {
				k, err = k.Retire(id)
			}
		}
		return k, err
	})
}

func (d Database) turned(t testing.TB, change func(*seal.Keyset) (*seal.Keyset, error)) Database {
	t.Helper()
	k, err := seal.Parse(d.Keyset)
	if err == nil {
		k, err = change(k)
	}
	if err == nil {
		d.Keyset, err = k.Text()
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Own returns a migrated database in a cluster that this test alone has, to be stopped, killed and started again. It
// commits durably, as in life.
func Own(t testing.TB) (Database, *localpg.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(folder(t), "pg")})
	if err != nil {
		t.Fatalf("a Postgres for this test: %v", err)
	}
	t.Cleanup(server.Stop)
	address, err := server.EnsureDatabase(ctx, "patchbay")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(ctx, address); err != nil {
		t.Fatal(err)
	}
	return Database{URL: address, Keyset: newKeyset(t)}, server
}

// Standby returns a cluster of the test's own that follows another by streaming replication.
func Standby(t testing.TB, primary *localpg.Server) *localpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	standby, err := primary.Standby(ctx, filepath.Join(folder(t), "pg"))
	if err != nil {
		t.Fatalf("a standby for this test: %v", err)
	}
	t.Cleanup(standby.Stop)
	return standby
}

// folder makes a folder for a cluster. It is not t.TempDir, which the user postgres could not enter.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "patchbay-own-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's cluster: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cluster is the address of the server that all test processes of this user share, or of the one that
// PATCHBAY_TEST_DATABASE_URL names.
func cluster(ctx context.Context) (string, error) {
	if named := os.Getenv("PATCHBAY_TEST_DATABASE_URL"); named != "" {
		return named, nil
	}
	return localpg.Join(ctx, localpg.Options{
		Dir:       filepath.Join(os.TempDir(), fmt.Sprintf("patchbay-test-pg-%d", os.Getuid())),
		Throwaway: true, MaxConnections: 500,
	})
}

// ensureTemplate returns the name of a database migrated to the schema this program knows. Being named after the
// schema's fingerprint it is never stale; being renamed when it is complete it is never half made.
func ensureTemplate(ctx context.Context, conn *pgx.Conn, admin string) (string, error) {
	fingerprint, err := migrations.Fingerprint()
	if err != nil {
		return "", err
	}
	name := "template_" + fingerprint
	// The lock is this connection's and goes with it.
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtext('patchbay test template'))`); err != nil {
		return "", err
	}
	defer conn.Exec(ctx, `SELECT pg_advisory_unlock(hashtext('patchbay test template'))`)
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil || exists {
		return name, err
	}
	making := name + "_making"
	for _, sql := range []string{
		`DROP DATABASE IF EXISTS ` + making + ` WITH (FORCE)`,
		`CREATE DATABASE ` + making + ` ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	address, err := url.Parse(admin)
	if err != nil {
		return "", err
	}
	address.Path = "/" + making
	if _, err := migrations.Up(ctx, address.String()); err != nil {
		return "", err
	}
	// A connection of the migration's may take a moment to be gone from the server's list.
	for range 100 {
		if _, err = conn.Exec(ctx, `ALTER DATABASE `+making+` RENAME TO `+name); err == nil {
			return name, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "", err
}

func onDatabase(t testing.TB, admin, name string) string {
	t.Helper()
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal("PATCHBAY_TEST_DATABASE_URL is not an address like postgres://user@host/database")
	}
	u.Path = "/" + name
	return u.String()
}

func newKeyset(t testing.TB) string {
	t.Helper()
	text, err := seal.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Receive returns what comes next from a channel, and fails the test when nothing does within two minutes.
func Receive[T any](t testing.TB, from <-chan T, what string) (next T) {
	t.Helper()
	select {
	case next = <-from:
	case <-time.After(2 * time.Minute):
		t.Fatalf("still waiting for %s after two minutes", what)
	}
	return next
}

// Wait waits until goroutines have ended, and fails the test when they have not within two minutes.
func Wait(t testing.TB, all *sync.WaitGroup, what string) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		all.Wait()
	}()
	Receive(t, ended, what)
}

// Eventually waits until a condition holds, and fails the test when it does not within half a minute.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for %s after 30 s", what)
		}
	}
}
